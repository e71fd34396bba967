"""How is a request done once, though its client sends it again because it never heard the answer?

What the request does and the answer that is kept are one transaction: whoever finds the answer finds what was
done, and what failed has left neither. (The header is `Idempotency-Key`; kept for a day, encrypted, because
answers have secrets that are shown once.)
"""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts import encryption, queries
from accounts.encryption import AnswerPlace, Undecryptable
from accounts.models import KeptAnswer, User
from accounts.operations.access import NotAllowed
from accounts.queries import NotFound
from accounts.roles import RoleName

KEPT = timedelta(hours=24)  # then `housekeeping` removes it


class KeyReused(Exception):
    """The key was used for another request."""


class AnswerLost(Exception):
    """The request was done, but its answer can't be read any more: its encryption key is gone."""


class Answer(NamedTuple):
    """What the client is told; `body` is JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    replayed: bool = False


@transaction.atomic
def once(
    *, actor: User, key: str, request_digest: bytes, account_id: UUID | None, run: Callable[[], Answer]
) -> Answer:
    """`run`'s answer, or that of the first request with this key.

    `request_digest` (32 bytes) tells requests apart; `account_id` is whose role decides who may hear the
    answer again. What `run` raises leaves nothing, nor does an answer that is no success.
    Raises KeyReused, AnswerLost, NotFound and NotAllowed.
    """
    row, is_first = _keep(actor, key, request_digest)
    if not is_first:
        return _again(row, actor, request_digest, account_id)
    answer = run()
    if not 200 <= answer.status < 300:
        transaction.set_rollback(True)
        return answer
    row.status = answer.status
    row.encrypted_answer = _seal(row, answer, _role(actor, account_id))
    row.save(update_fields=["status", "encrypted_answer"])
    return answer


def _keep(actor: User, key: str, request_digest: bytes) -> tuple[KeptAnswer, bool]:
    """The key's row, and whether it is ours.

    While another session runs the same request, the INSERT waits: for its commit, after which its row is
    found, or for its rollback, after which ours is the first.
    """
    same = KeptAnswer.objects.filter(user=actor, key=key)
    while True:
        same.filter(_expired()).delete()
        ours = KeptAnswer(user=actor, key=key, request_digest=request_digest)
        KeptAnswer.objects.bulk_create([ours], ignore_conflicts=True)
        row = same.first()
        if row is not None:  # else it expired, and another session swept it, between the statements
            return row, row.pk == ours.pk


def _again(row: KeptAnswer, actor: User, request_digest: bytes, account_id: UUID | None) -> Answer:
    if bytes(row.request_digest) != request_digest:
        raise KeyReused
    answer, role_then = _unseal(row)
    if account_id is not None:
        _check_role(_role(actor, account_id), role_then)
    return answer


def _check_role(now: RoleName | None, then: RoleName | None) -> None:
    """Who was removed or demoted since does not hear again what they could not ask for now."""
    if now is None:
        raise NotFound
    if now not in {then, RoleName.ADMIN}:
        raise NotAllowed("answer.read")


def _role(actor: User, account_id: UUID | None) -> RoleName | None:
    return None if account_id is None else queries.role_of(actor.pk, account_id)


def _seal(row: KeptAnswer, answer: Answer, role: RoleName | None) -> str:
    head = json.dumps({"headers": dict(answer.headers), "role": role})
    return encryption.encrypt(head.encode() + b"\n" + answer.body, AnswerPlace(row.user_id, row.pk))


def _unseal(row: KeptAnswer) -> tuple[Answer, RoleName | None]:
    try:
        sealed = encryption.decrypt(row.encrypted_answer, AnswerPlace(row.user_id, row.pk))
    except Undecryptable as error:
        raise AnswerLost from error
    raw, _, body = sealed.partition(b"\n")
    head = json.loads(raw)
    role = None if head["role"] is None else RoleName(head["role"])
    return Answer(row.status or 200, head["headers"], body, replayed=True), role


def _expired() -> Q:
    return Q(created_at__lte=Now() - KEPT)
