"""What does the fuzzer find when it comes in? (Plain: the fuzzer's own process reads it too.)"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Stage:
    """`email`: the Admin's, whose password is PASSWORD; `bearer`: theirs; `token`: the
    account's; `metrics`: the operator's; `ids`: by names in paths.
    """

    url: str
    email: str
    bearer: str
    token: str
    metrics: str
    invitations: list[str]
    ids: dict[str, list[str]]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))
