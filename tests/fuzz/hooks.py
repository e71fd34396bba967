"""How do the fuzzer's requests get inside? By ids of things that are there; what is deleted was made for it.

Loaded by Schemathesis in its own process. In its stateful phase the ids come from answers, and stay.
"""

import itertools
import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import RejectedPositiveData

from tests.fuzz.stage import PASSWORD, Stage

STAGE = Stage.read(Path(os.environ["FUZZ_STAGE"]))
STATUSES = Path(os.environ["FUZZ_STATUSES"])
# Fields of which a schema can't say everything: whose address it is, which password is common, whose cursor.
NOT_ALL_SAID = {
    *("cursor", "current_password", "email", "headers", "new_password", "password", "role_id", "token"),
    *("url", "website"),
}
_IDS: dict[str, Iterator[str]] = {name: itertools.cycle(found) for name, found in STAGE.ids.items()}
_invitations = iter(STAGE.invitations)
_numbers = itertools.count(1)
_addresses = itertools.count(int(IPv4Address("10.0.0.1")))
_session = requests.Session()
_session.headers["Authorization"] = f"Bearer {STAGE.bearer}"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if isinstance(case.body, dict | list):
        case.body = _integers(case.body)
    case.headers["X-Forwarded-For"] = _somewhere()
    if case.meta is None or case.meta.phase.name is TestPhase.STATEFUL:
        return
    fresh = _MAKE.get(_name(case), dict)()
    _make_conditions_hold(case)
    for parameter in case.path_parameters or {}:
        case.path_parameters[parameter] = fresh.get(parameter) or next(_IDS[parameter])
    if isinstance(case.body, dict) and next(_numbers) % 2:
        case.body |= _FITTING.get(_name(case), dict)()


def _make_conditions_hold(case: Any) -> None:
    """Of what was made up right: mostly so, else nothing would be done; as it is for every fourth."""
    header = case.meta.components.get(ParameterLocation.HEADER)
    if header is None or header.mode is not GenerationMode.POSITIVE or next(_numbers) % 4 == 0:
        return
    if "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"key-{next(_numbers)}"


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """False: what is right by the schema was refused, but for a reason that no schema can say."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    fields = {field.partition(".")[0] for field in response.json()["errors"]}
    return not (fields and fields <= NOT_ALL_SAID)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Written down for the test, which asks whether everything was reached."""
    with STATUSES.open("a") as file:
        file.write(f"{_name(case)} {response.status_code}\n")


@schemathesis.auth(refresh_interval=None)
class Credentials:
    """The Admin's token; where it would end, one of somebody who is made for it."""

    def get(self, case: Any, _context: Any) -> dict[str, str]:
        if _name(case) == "receive_event":
            return {"CL-X-TOKEN": STAGE.token}
        if _name(case) == "read_metrics":
            return {"Authorization": f"Bearer {STAGE.metrics}"}
        bearer = _somebody() if _name(case) in _ENDS_TOKENS else STAGE.bearer
        return {"Authorization": f"Bearer {bearer}"}

    def set(self, case: Any, data: dict[str, str], _context: Any) -> None:
        case.headers.update(data)


def _name(case: Any) -> str:
    return case.operation.definition.raw["operationId"]


def _integers(content: Any) -> Any:
    """To JSON Schema 5.0 is an integer; we take it for none (api.fields), and tests of ours show it."""
    if isinstance(content, float) and content.is_integer():
        return int(content)
    if isinstance(content, dict):
        return {name: _integers(value) for name, value in content.items()}
    return [_integers(value) for value in content] if isinstance(content, list) else content


def _post(path: str, content: Any) -> dict[str, Any]:
    headers = {"X-Forwarded-For": _somewhere()}
    answer = _session.post(f"{STAGE.url}/api/v1{path}", json=content, headers=headers, timeout=10)
    answer.raise_for_status()
    return answer.json()["data"]


def _account() -> dict[str, str]:
    return {"account_id": _post("/accounts/", {"name": "To be deleted"})["id"]}


def _destination() -> dict[str, str]:
    content = {"url": "https://hooks.example.org/in", "http_method": "POST", "headers": {}}
    return {"destination_id": _post(f"{_main()}/destinations/", content)["id"]}


def _member() -> dict[str, str]:
    content = {"email": _new_email(), "role": "Normal user"}
    return {"member_id": _post(f"{_main()}/members/", content)["id"]}


def _somebody() -> str:
    """The token of a new user."""
    person = {"email": _new_email(), "password": PASSWORD}
    _post("/auth/register/", person)
    return _post("/auth/login/", person)["token"]


def _somewhere() -> str:
    """An address that nobody failed to log in from: who fails is made to wait."""
    return str(IPv4Address(next(_addresses)))


def _new_email() -> str:
    return f"fuzz{next(_numbers)}@shop.example.org"


def _main() -> str:
    return f"/accounts/{STAGE.ids['account_id'][0]}"


_MAKE = {"delete_account": _account, "delete_destination": _destination, "remove_member": _member}
_FITTING = {
    "register": lambda: {"email": _new_email()},
    "add_member": lambda: {"email": _new_email()},
    "log_in": lambda: {"email": STAGE.email, "password": PASSWORD},
    "accept_invitation": lambda: {"token": next(_invitations, "used up")},
    "change_password": lambda: {"current_password": PASSWORD},
}
_ENDS_TOKENS = {"log_out", "change_password"}
