"""What has expired, and goes? (The worker asks for it each hour.)

In slices, each a transaction of its own that passes over rows which somebody is at: nobody waits for it.
"""

import logging
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now

from accounts import slowdown
from accounts.models import AccessToken, Failure, IngestToken, Invitation, KeptAnswer
from accounts.operations import idempotency

SLICE = 1000
MOST_SLICES = 200
"""A run ends after so many, whatever is left, so that it never comes near Django-Q2's time limit."""

logger = logging.getLogger(__name__)


def sweep() -> dict[str, int]:
    """How many rows went, by what they were."""
    gone: dict[str, int] = {}
    slices = MOST_SLICES
    for rows in _expired():
        name = rows.model._meta.model_name or ""  # noqa: SLF001  # Django's public API
        gone[name] = 0
        while slices:
            slices -= 1
            deleted = _delete(rows)
            gone[name] += deleted
            if deleted < SLICE:
                break
    if any(gone.values()):
        logger.info("Expired and removed: %s", ", ".join(f"{number} {name}" for name, number in gone.items()))
    return gone


def _expired() -> list[QuerySet[Model]]:
    ended = Q(expires_at__lte=Now())
    return [
        Session.objects.filter(expire_date__lte=Now()),
        AccessToken.objects.filter(ended),
        Invitation.objects.filter(ended),
        IngestToken.objects.filter(ended),
        Failure.objects.filter(last_at__lte=Now() - timedelta(seconds=slowdown.QUIET_SECONDS)),
        KeptAnswer.objects.filter(created_at__lte=Now() - idempotency.KEPT),
    ]


@transaction.atomic
def _delete(rows: QuerySet[Model]) -> int:
    free = rows.select_for_update(skip_locked=True).values_list("pk", flat=True)
    return rows.filter(pk__in=list(free[:SLICE])).delete()[0]
