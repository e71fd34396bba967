"""What became of each delivery of an account?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

import django_filters
import orjson
from django.db.models import Model
from django_filters.filterset import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts import queries
from accounts.operations import access
from accounts.roles import Action
from api import filters, problems
from api.endpoint import Endpoint, written
from api.fields import Moment, Nothing, Strict
from api.pagination import ByCursor
from api.problems import Problem
from api.schema import envelope
from delivery import finding
from delivery import queries as deliveries
from delivery.outcome import Reason
from eventstore.events import NO_ACCOUNT
from outbox import requests

if TYPE_CHECKING:
    from delivery.models import DeliveryLog

SHOWN_IN_LISTS = 16 << 10
ENDINGS = ", ".join(f"`{reason}`" for reason in (*Reason, "interrupted"))
STATUSES = ("pending", "success", "failed")


@extend_schema_field(OpenApiTypes.OBJECT)
class AsReceived(serializers.JSONField):
    """The event's own JSON."""


class LogRow(Strict):
    """A row of the log, without what was received."""

    id = serializers.UUIDField(source="delivery_id", read_only=True)
    event_id = serializers.CharField(source="client_event_id", read_only=True, help_text="The client's own.")
    account_id = serializers.UUIDField(read_only=True)
    destination_id = serializers.UUIDField(read_only=True)
    received_timestamp = Moment(source="received_at")
    processed_timestamp = Moment(
        source="processed_at", allow_null=True, help_text="The end of the last attempt."
    )
    status = serializers.ChoiceField(STATUSES, read_only=True)
    attempts = serializers.IntegerField(read_only=True, help_text="How many there were.")
    reason = serializers.CharField(
        read_only=True,
        help_text=f"How the last attempt ended: {ENDINGS}; or why there are no more: `destination_inactive`, "
        "`destination_deleted`. Empty until one has ended, also after a redelivery.",
    )
    response_status = serializers.IntegerField(read_only=True, allow_null=True)
    next_attempt_timestamp = Moment(source="next_attempt_at", allow_null=True)


class LogFields(LogRow):
    """One delivery: an event at a destination."""

    received_data = AsReceived(
        read_only=True,
        allow_null=True,
        required=False,
        help_text="As received; null when it was erased; left out of lists above 16 KiB.",
    )
    received_data_url = serializers.URLField(
        read_only=True, required=False, help_text="Where it can be read, when it is left out."
    )

    class Meta:
        ref_name = "Log"


class AttemptFields(Strict):
    """One attempt."""

    number = serializers.IntegerField(read_only=True)
    finished_timestamp = Moment(source="recorded_at")
    reason = serializers.CharField(read_only=True, help_text=f"How it ended: {ENDINGS}.")
    response_status = serializers.IntegerField(read_only=True, allow_null=True)
    duration_us = serializers.IntegerField(read_only=True, allow_null=True, help_text="Microseconds.")
    address = serializers.CharField(
        read_only=True, allow_null=True, help_text="The address that was dialled."
    )
    detail = serializers.CharField(read_only=True)
    next_attempt_timestamp = Moment(source="next_attempt_at", allow_null=True)

    class Meta:
        ref_name = "Attempt"


class LogDetailFields(LogFields):
    """One delivery with every attempt."""

    attempt_list = AttemptFields(many=True, read_only=True)

    class Meta:
        ref_name = "LogDetail"


class LogFilters(FilterSet):
    id = django_filters.UUIDFilter("delivery_id")
    event_id = filters.Text("client_event_id", label="The client's own id.")
    destination_id = django_filters.UUIDFilter()
    status = filters.Choice(STATUSES)
    received_timestamp = filters.Moment("received_at")
    received_timestamp_after = filters.Moment("received_at", "gte")
    received_timestamp_before = filters.Moment("received_at", "lte")
    processed_timestamp = filters.Moment("processed_at")
    processed_timestamp_after = filters.Moment("processed_at", "gte")
    processed_timestamp_before = filters.Moment("processed_at", "lte")
    search = filters.Text(
        max_length=filters.LONGEST_SEARCH,
        label="The event id begins with it, or the destination's URL contains it.",
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The rows that the parameters ask for."""

    account_id: UUID
    wanted: finding.Wanted
    model: type[Model]

    def page(self, *, start: tuple[Any, Any] | None, descending: bool, most: int) -> "list[DeliveryLog]":
        return finding.find(self.account_id, self.wanted, most=most, descending=descending, after=start)


def _wanted(account_id: UUID, asked: dict[str, Any]) -> finding.Wanted:
    received, processed = (_span(asked, name) for name in ("received_timestamp", "processed_timestamp"))
    text = asked.get("search")
    return finding.Wanted(
        delivery=asked.get("id"),
        event=asked.get("event_id"),
        destination=asked.get("destination_id"),
        status=asked.get("status"),
        received_from=received[0],
        received_to=received[1],
        processed_from=processed[0],
        processed_to=processed[1],
        prefix=text,
        searched=None if text is None else queries.destinations_by_url(account_id, text),
    )


def _span(asked: dict[str, Any], name: str) -> tuple[datetime | None, datetime | None]:
    exact = asked.get(name)
    begins = [moment for moment in (exact, asked.get(f"{name}_after")) if moment is not None]
    ends = [moment for moment in (exact, asked.get(f"{name}_before")) if moment is not None]
    return max(begins, default=None), min(ends, default=None)


@extend_schema_view(
    list=extend_schema(operation_id="list_logs", summary="An account's deliveries, the newest first"),
    retrieve=extend_schema(
        operation_id="read_log", summary="One delivery with its attempts", responses=LogDetailFields
    ),
)
class Logs(Endpoint):
    tag = "logs"
    serializer_class = LogFields
    filterset_class = LogFilters
    queryset = deliveries.logs(NO_ACCOUNT)
    orderings: ClassVar[dict[str, str]] = {"received_timestamp": "received_at"}
    default_ordering = "-received_timestamp"
    unique = "delivery_id"
    lookup_url_kwarg = "log_id"
    problems: ClassVar[dict[str, tuple[Problem, ...]]] = {
        "redeliver": (
            problems.DELIVERY_PENDING,
            problems.DESTINATION_INACTIVE,
            problems.DESTINATION_DELETED,
            problems.PAYLOAD_ERASED,
        )
    }

    def list(self, request: Request, account_id: str) -> Response:
        _ = account_id
        readable = self._readable()
        asked = filters.asked(request, LogFilters, self.queryset)
        found = Found(readable, _wanted(readable, asked), self.queryset.model)
        page = cast("ByCursor", self.paginator).paginate_queryset(found, request, view=self)
        return self.get_paginated_response(_with_data(page, request))

    def retrieve(self, _request: Request, **_: str) -> Response:
        account_id = self._readable()
        detail = deliveries.detail(account_id, self.id("log_id"))
        body = deliveries.received_data(account_id, detail.log.event_id)
        return Response(
            {
                **LogRow(detail.log).data,
                "received_data": None if body is None else orjson.Fragment(body),
                "attempt_list": AttemptFields(detail.attempts, many=True).data,
            }
        )

    @extend_schema(
        operation_id="redeliver",
        summary="Send a delivery again",
        description="With the same id and content, the next attempt number and a fresh schedule. The answer "
        "is the log as it stands then: pending. The log itself shows that at once, the list of logs with "
        "the next block.",
        request=None,
        responses={200: envelope("Redelivered", LogRow())},
    )
    @action(detail=True, methods=["post"])
    def redeliver(self, _request: Request, **_: str) -> Response:
        self.content(Nothing)
        log = requests.redeliver(
            actor=self.user, account_id=self.id("account_id"), delivery_id=self.id("log_id")
        )
        return written(LogRow(log).data)

    def _readable(self) -> UUID:
        account_id = self.id("account_id")
        access.require(self.user, account_id, Action.READ_LOG)
        return account_id


def _with_data(page: "Sequence[DeliveryLog]", request: Request) -> list[dict[str, Any]]:
    """The page as it is shown, with the events' content: one query for all of them."""
    if not page:
        return []
    events = {row.event_id for row in page}
    bodies = deliveries.received_data_of(page[0].account_id, events, at_most=SHOWN_IN_LISTS)
    return [{**LogRow(row).data, **_data(row, bodies, request)} for row in page]


def _data(row: "DeliveryLog", bodies: dict[UUID, bytes | None], request: Request) -> dict[str, Any]:
    if row.event_id not in bodies:
        return {"received_data": None}
    body = bodies[row.event_id]
    if body is not None:
        return {"received_data": orjson.Fragment(body)}
    path = {"account_id": row.account_id, "log_id": row.delivery_id}
    return {"received_data_url": reverse("logs-detail", kwargs=path, request=request)}
