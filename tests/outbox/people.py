"""Who is in the outbox's tests? Accounts with an admin, a token and destinations, made by operations."""

import hashlib
import itertools
import time
from dataclasses import dataclass
from uuid import UUID

from django.test import override_settings

from accounts import operations, tokens
from eventstore.identifiers import uuid7
from outbox import intake

_numbers = itertools.count(1)
NOWHERE = "http://127.0.0.1:9999/hook"


@dataclass(frozen=True)
class Account:
    id: UUID
    token: tokens.PresentedToken
    text: str  # of the token, as a client sends it
    destinations: list[UUID]
    admin: object


def account(*, limit=5, destinations=1, url=NOWHERE, **destination) -> Account:
    """An account of a fresh user; `destination` is passed on, e.g. http_method="GET"."""
    admin = operations.register_user(
        email=f"user{next(_numbers)}@example.com", password="correct horse battery"
    )
    made = operations.create_account(actor=admin, name="Alice's", rate_limit_per_second=limit)
    options = {"http_method": "POST", "headers": {}} | destination
    with override_settings(DESTINATION_ALLOW=["127.0.0.0/8"]):
        ids = [
            operations.create_destination(
                actor=admin, account_id=made.account.id, url=url, **options
            ).destination.id
            for _ in range(destinations)
        ]
    return Account(made.account.id, _parsed(made.app_secret_token), made.app_secret_token, ids, admin)


def rotated(owner: Account, *, overlap_seconds: int) -> tokens.PresentedToken:
    made = operations.rotate_token(actor=owner.admin, account_id=owner.id, overlap_seconds=overlap_seconds)
    return _parsed(made.app_secret_token)


def unknown_token() -> tokens.PresentedToken:
    return _parsed(tokens.make().text)


def events(owner: Account, client_ids, *, body=b"{}") -> list[UUID]:
    """Accepted, in one batch, by the statement that the intake calls."""
    from eventstore import connections

    with connections.connect_sync() as connection:
        statement, parameters = accepting(owner, client_ids, body=body)
        verdicts = connection.execute(statement, parameters, binary=True).fetchall()
    refused = [verdict for verdict in verdicts if verdict[0] != "accepted"]
    if refused:
        raise AssertionError(f"{len(refused)} events were not accepted: {refused[0]}")
    return [event for _, event, *_ in verdicts]


def accepting(owner: Account, client_ids, *, body=b"{}") -> tuple[str, list[object]]:
    """The intake's statement with its parameters, for a batch of these."""
    many = len(client_ids)
    return intake._ACCEPT, [
        0,
        [owner.token.key_id] * many,
        [owner.token.digest] * many,
        list(client_ids),
        [body] * many,
        [b"salt"] * many,
        [hashlib.sha256(b"salt" + body).digest()] * many,
        [uuid7() for _ in range(many)],
    ]


def restored(database) -> None:
    """Make the database look like a dump that was restored into another."""
    with database.connect_owner() as owner:
        owner.execute("ALTER TABLE history DISABLE TRIGGER USER")
        owner.execute("UPDATE history SET database = database::bigint + 1 WHERE true")
        owner.execute("ALTER TABLE history ENABLE TRIGGER USER")


def wait_until(condition, *, seconds=10.0):
    """The condition's first true answer."""
    ends = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
    return answer


def _parsed(text: str) -> tokens.PresentedToken:
    parsed = tokens.parse(text)
    if parsed is None:
        raise AssertionError("our own token is malformed")
    return parsed
