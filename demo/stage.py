"""What must be there before the demo begins? A user, an account with its token, three destinations.

Made once and kept (demo.keep); at each later start only what is missing is made anew. It goes through the
same operations as everybody's requests.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from accounts import operations, queries, tokens
from accounts.operations import EmailTaken, NotFound, WrongCredentials
from demo import keep
from demo.receiver import Door

if TYPE_CHECKING:
    from accounts.models import User

EMAIL = "demo@example.com"
MOODY_SCHEDULE = [2, 5, 15]


@dataclass(frozen=True)
class Plan:
    """A destination as it should be."""

    http_method: str
    path: str
    options: Mapping[str, Any]
    moody: bool = False


PLANS = {
    "post": Plan("POST", "/post", {}),
    "get": Plan("GET", "/get", {}),
    "moody": Plan("PUT", "/moody", {"retry_schedule_seconds": MOODY_SCHEDULE}, moody=True),
}


@dataclass(frozen=True)
class Stage:
    """All that the demo needs to know. `doors`: its receiver's, by destination; `pace`: events per second."""

    data_dir: Path
    url: str
    port: int
    email: str
    password: str
    bearer: str
    account_id: str
    token: str
    pace: float
    doors: Mapping[str, Door]


def prepare(data_dir: Path, *, url: str) -> Stage:
    """`url`: where Data Pusher itself is. Safe to repeat, also after a crash in the middle."""
    port = keep.receiver_port(data_dir)
    kept = _Kept(data_dir)
    kept["DEMO_URL"] = url
    user = _user(kept)
    account_id, rate_limit = _account(kept, user)
    doors = {name: _door(kept, user, account_id, name, port) for name in PLANS}
    return Stage(
        data_dir=data_dir,
        url=url,
        port=port,
        email=kept["DEMO_EMAIL"],
        password=kept["DEMO_PASSWORD"],
        bearer=kept["DEMO_BEARER"],
        account_id=str(account_id),
        token=kept["DEMO_TOKEN"],
        # The other half is for the person at the second terminal, who is not to be told to wait.
        pace=rate_limit / 2,
        doors=doors,
    )


class _Kept:
    """The kept values, each written as soon as it is known: a secret is shown only once."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._values = keep.read(data_dir)

    def __getitem__(self, name: str) -> str:
        return self._values.get(name, "")

    def __setitem__(self, name: str, value: str) -> None:
        if self._values.get(name) != value:
            self._values[name] = value
            keep.write(self._data_dir, self._values)

    def id(self, name: str) -> UUID:
        return UUID(self[name]) if self[name] else UUID(int=0)


def _user(kept: _Kept) -> "User":
    user = queries.user_of_bearer(kept["DEMO_BEARER"])
    if user is not None:
        return user
    try:
        logged_in = operations.log_in(email=kept["DEMO_EMAIL"], password=kept["DEMO_PASSWORD"])
    except WrongCredentials:
        kept["DEMO_PASSWORD"] = secrets.token_urlsafe(12)
        kept["DEMO_EMAIL"] = _register(kept["DEMO_PASSWORD"])
        logged_in = operations.log_in(email=kept["DEMO_EMAIL"], password=kept["DEMO_PASSWORD"])
    kept["DEMO_BEARER"] = logged_in.access_token
    return logged_in.user


def _register(password: str) -> str:
    """The e-mail address; another one when a demo whose password is not known here has the usual one."""
    try:
        return operations.register_user(email=EMAIL, password=password).email
    except EmailTaken:
        other = EMAIL.replace("@", f"-{secrets.token_hex(4)}@")
        return operations.register_user(email=other, password=password).email


def _account(kept: _Kept, user: "User") -> tuple[UUID, int]:
    try:
        account = queries.account(user, kept.id("DEMO_ACCOUNT"))
    except NotFound:
        account, token = operations.create_account(actor=user, name="Demo")
        kept["DEMO_TOKEN"] = token
        kept["DEMO_ACCOUNT"] = str(account.pk)
    presented = tokens.parse(kept["DEMO_TOKEN"])
    valid = queries.tokens_of(account.pk)
    if presented is None or not any(bytes(one.digest) == presented.digest for one in valid):
        kept["DEMO_TOKEN"] = operations.rotate_token(actor=user, account_id=account.pk).app_secret_token
    return account.pk, account.rate_limit_per_second


def _door(kept: _Kept, user: "User", account_id: UUID, name: str, port: int) -> Door:
    plan, id_name, secret_name = PLANS[name], f"DEMO_{name}_ID".upper(), f"DEMO_{name}_SECRET".upper()
    wanted = {"url": f"http://{keep.HOST}:{port}{plan.path}", "http_method": plan.http_method, **plan.options}
    where: dict[str, Any] = {"actor": user, "account_id": account_id, "destination_id": kept.id(id_name)}
    try:
        operations.update_destination(**where, changes={**wanted, "active": True})
        operations.resume_destination(**where)
    except NotFound:
        destination, secret = operations.create_destination(
            actor=user, account_id=account_id, headers={"Accept": "application/json"}, **wanted
        )
        kept[secret_name] = secret
        kept[id_name] = str(destination.pk)
    return Door(plan.path, kept[secret_name], moody=plan.moody)
