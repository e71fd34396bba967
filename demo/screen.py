"""How does the demo look? One aligned line for each thing that happens, a little colour."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

COLOURS = {
    "accepted": "cyan",
    "delivered": "green",
    "refused": "yellow",
    "retried": "green",
    "logged": "blue",
    "waiting": "yellow",
    "failed": "bold red",
}
ID_WIDTH = 11
KIND_WIDTH = 22


class Screen:
    """Lines are never broken: what is to be copied, such as a command, must stay in one."""

    def __init__(self, console: Console | None = None) -> None:
        # Through a pipe, rich goes by FORCE_COLOR, which `manage.py up` sets when it has a terminal itself.
        self._console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

    def event(self, what: str, event_id: str, kind: str, detail: str) -> None:
        line = Text(time.strftime("%H:%M:%S "), style="dim")
        line.append(f"{what:<10}", style=f"not dim {COLOURS.get(what, 'bold')}")
        line.append(f"{_cut(event_id, ID_WIDTH)} ", style="not dim")
        line.append(f"{_cut(kind, KIND_WIDTH)} ", style="dim")
        line.append(detail, style="not dim")
        self._print(line)

    def say(self, text: str = "") -> None:
        self._print(Text(text))

    def table(self, rows: Iterable[tuple[str, str]]) -> None:
        for name, value in rows:
            self._print(Text.assemble((f"  {name:<10}", "dim"), value))

    def command(self, text: str) -> None:
        self._print(Text(f"  {text}", style="bold"))

    def _print(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)
        self._console.file.flush()


def _cut(text: str, width: int) -> str:
    return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"
