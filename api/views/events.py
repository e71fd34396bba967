"""What happened in an account? Its sealed history, in its one order, for whoever follows or proves it."""

import json
from typing import Any
from uuid import UUID

import orjson
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import events, queries
from accounts.operations import access
from accounts.roles import Action
from api import pagination
from api.endpoint import Endpoint
from api.fields import Moment, Strict
from delivery import events as delivery_events
from eventstore import read
from eventstore.events import NO_ACCOUNT, RecordedEvent

DESCRIPTION = """
Every fact about the account: what was received, each attempt at each delivery, and each change, with its
`actor`. The order of `position` is final: events appear in it whole blocks at a time, a fraction of a second
after they happened, and never before one that was shown already. To follow the history, ask for what comes
`after` the last position that you have seen, again and again: nothing is missed or comes twice. Positions
grow, but not by one: other accounts have theirs between.
"""

# A user belongs to no account, so their events are in no account's history.
TYPES = [*delivery_events.Type, *(one for one in events.Type if not one.startswith("user."))]


@extend_schema_field(OpenApiTypes.OBJECT)
class AsRecorded(serializers.JSONField):
    """The event's data, as it was sealed: whole numbers of any size."""

    def to_representation(self, value: Any) -> Any:
        return orjson.Fragment(json.dumps(value, ensure_ascii=False))


class EventFields(Strict):
    """One fact of the history."""

    position = serializers.IntegerField(read_only=True, help_text="Its place in the history.")
    block = serializers.IntegerField(read_only=True, help_text="The block that it was sealed in.")
    type = serializers.CharField(
        read_only=True,
        help_text=f"What happened. More may be added; now there are {', '.join(f'`{one}`' for one in TYPES)}."
        " What is told of users (`user.*`) belongs to no account, and is not here.",
    )
    stream_id = serializers.UUIDField(
        read_only=True, help_text="What it is about: an event, a delivery, a destination, a member..."
    )
    version = serializers.IntegerField(read_only=True, help_text="Its number in its stream, from 1.")
    recorded_at = Moment()
    payload_digest = serializers.SerializerMethodField(
        help_text="SHA-256 of salt and content, in hex, for what was received; else null."
    )
    data = AsRecorded(  # type: ignore[assignment]  # a field's name here; DRF takes it from the class
        read_only=True, help_text="Ids, numbers and short words: no secrets, no content."
    )

    class Meta:
        ref_name = "Event"

    def get_payload_digest(self, event: RecordedEvent) -> str | None:
        return None if event.payload_digest is None else event.payload_digest.hex()


@extend_schema_view(
    list=extend_schema(
        operation_id="list_events",
        summary="An account's sealed history",
        description=DESCRIPTION,
    )
)
class Events(Endpoint):
    tag = "events"
    serializer_class = EventFields
    pagination_class = pagination.ByPosition
    filter_backends = []
    queryset = queries.destinations_of(NO_ACCOUNT)

    def list(self, request: Request, **_: str) -> Response:
        account_id = self._readable()
        place = pagination.place(request)
        page = read.page(account_id, after=place.after, most=place.size)
        return Response(
            {
                "next": place.link(page.next_after),
                "previous": place.link(page.previous_after),
                "results": EventFields(page.events, many=True).data,
            }
        )

    def known_parameters(self) -> set[str]:
        return set(pagination.POSITION_PARAMETERS)

    def _readable(self) -> UUID:
        account_id = self.id("account_id")
        access.require(self.user, account_id, Action.READ_EVENT)
        return account_id
