"""Where an account's events go."""

from typing import TYPE_CHECKING, Any, ClassVar

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import operations, queries
from accounts.operations import access
from accounts.roles import Action
from accounts.validators import HTTP_METHODS
from api import filters, problems
from api.endpoint import Endpoint, found, written
from api.fields import Choice, Flag, Moment, Nothing, Number, Numbers, Strict, Text, Texts
from api.problems import Problem
from api.schema import NOTHING, envelope
from eventstore.events import NO_ACCOUNT
from outbox import requests

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.models import Destination


class DestinationFields(Strict):
    """A destination."""

    id = serializers.UUIDField(read_only=True)
    url = Text(help_text="http or https, at an address of the public internet.")
    http_method = Choice(
        HTTP_METHODS,
        help_text="GET: the event's members become query parameters; else its bytes are the body.",
    )
    headers = Texts(
        source="shown_headers",
        help_text="Sent with every delivery; may be empty. Secret values are shown as ********; "
        "sending that back keeps them, but not for another scheme, host or port of the URL: "
        "there they must be sent again. Headers that can't be decrypted any more are shown as none at all, "
        "and replaced by those that are sent.",
    )
    active = Flag(required=False, help_text="false: no events for it.")
    paused = serializers.BooleanField(read_only=True, help_text="Events wait for it.")
    timeout_seconds = Number(required=False, help_text="From 1 to 30; 15 by default.")
    retry_schedule_seconds = Numbers(
        required=False,
        help_text="The pauses between attempts: up to 20 of 1 to 86400 seconds.",
    )
    signing_secret = serializers.CharField(
        read_only=True,
        required=False,
        help_text="`whsec_...` (Standard Webhooks). Shown once, when it is made.",
    )
    created_at = Moment()
    updated_at = Moment()
    created_by = serializers.UUIDField(source="created_by_id", read_only=True)
    updated_by = serializers.UUIDField(source="updated_by_id", read_only=True)

    class Meta:
        ref_name = "Destination"


class NewDestinationFields(DestinationFields):
    """A destination, with the signing secret that was just made."""

    signing_secret = serializers.CharField(
        read_only=True, help_text="`whsec_...` (Standard Webhooks). Shown once, when it is made."
    )

    class Meta:
        ref_name = "NewDestination"


class SecretRotation(Strict):
    """How long the earlier secret signs beside the new one."""

    overlap_seconds = Number(
        default=operations.destination.ROTATION_OVERLAP_SECONDS, help_text="From 0 (at once) to 604800."
    )


class SampleFields(Strict):
    """The sample event that was sent."""

    id = serializers.UUIDField(
        source="delivery_id", read_only=True, help_text="The delivery's: its log is at `logs/{id}/`."
    )
    event_id = serializers.CharField(
        source="client_event_id", read_only=True, help_text="What the receiver sees in `CL-X-EVENT-ID`."
    )
    destination_id = serializers.UUIDField(read_only=True)
    received_timestamp = Moment(source="received_at")

    class Meta:
        ref_name = "Sample"


class DestinationFilters(filters.Kept):
    url = filters.Text()
    http_method = filters.Choice(HTTP_METHODS)
    active = filters.Flag()
    paused = filters.Flag()
    search = filters.Search("url", "http_method")


WRITTEN = envelope("DestinationWritten", DestinationFields())
WITH_SECRET = envelope("DestinationCreated", NewDestinationFields())


@extend_schema_view(
    list=extend_schema(operation_id="list_destinations", summary="An account's destinations"),
    retrieve=extend_schema(
        operation_id="read_destination", summary="One destination", responses=DestinationFields
    ),
    create=extend_schema(
        operation_id="create_destination",
        summary="Add a destination",
        responses={201: WITH_SECRET},
    ),
    update=extend_schema(
        operation_id="replace_destination", summary="Change a destination", responses={200: WRITTEN}
    ),
    partial_update=extend_schema(
        operation_id="update_destination",
        summary="Change some fields of a destination",
        description="`headers` are replaced as a whole. Those that are left out stay, but secret ones only "
        "where scheme, host and port of the URL do.",
        responses={200: WRITTEN},
    ),
    destroy=extend_schema(
        operation_id="delete_destination",
        summary="Delete a destination",
        description="What waits for it is cancelled.",
        responses={200: NOTHING},
    ),
)
class Destinations(Endpoint):
    tag = "destinations"
    serializer_class = DestinationFields
    filterset_class = DestinationFilters
    queryset = queries.destinations_of(NO_ACCOUNT)
    orderings: ClassVar[dict[str, str]] = {
        "created_at": "created_at",
        "updated_at": "updated_at",
        "url": "url",
    }
    default_ordering = "-created_at"
    lookup_url_kwarg = "destination_id"
    problems: ClassVar[dict[str, tuple[Problem, ...]]] = {
        "create": (problems.TOO_MANY_DESTINATIONS,),
        "test": (problems.DESTINATION_INACTIVE,),
    }

    def list(self, _request: Request, **_: str) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self._readable()))
        return self.get_paginated_response(DestinationFields(page, many=True).data)

    def create(self, _request: Request, **_: str) -> Response:
        made = operations.create_destination(
            actor=self.user, account_id=self.id("account_id"), **self._content()
        )
        return _with_secret(made.destination, made.signing_secret)

    def retrieve(self, _request: Request, **_: str) -> Response:
        self._readable()
        destination = queries.destination(**self._ids())
        return found(DestinationFields(destination).data, revision=destination.revision)

    def update(self, _request: Request, *, partial: bool = False, **_: str) -> Response:
        changes = self._content(partial=partial)
        changed = operations.update_destination(
            actor=self.user, **self._ids(), changes=changes, revision=self.expected
        )
        return _written(changed)

    def partial_update(self, request: Request, **path: str) -> Response:
        return self.update(request, partial=True, **path)

    def destroy(self, _request: Request, **_: str) -> Response:
        operations.delete_destination(actor=self.user, **self._ids(), revision=self.expected)
        return written(None)

    @extend_schema(
        operation_id="pause_destination",
        summary="Let its events wait",
        request=None,
        responses={200: WRITTEN},
    )
    @action(detail=True, methods=["post"])
    def pause(self, _request: Request, **_: str) -> Response:
        self.content(Nothing)
        return _written(operations.pause_destination(actor=self.user, **self._ids(), revision=self.expected))

    @extend_schema(
        operation_id="resume_destination",
        summary="Send what waited",
        request=None,
        responses={200: WRITTEN},
    )
    @action(detail=True, methods=["post"])
    def resume(self, _request: Request, **_: str) -> Response:
        self.content(Nothing)
        return _written(operations.resume_destination(actor=self.user, **self._ids(), revision=self.expected))

    @extend_schema(
        operation_id="test_destination",
        summary="Send it a sample event",
        description="The event is stored, delivered, tried again and logged like any other, but for this "
        "destination alone, and without counting against the account's limit. Its content says that it is a "
        "test. While the destination is paused, it waits.",
        request=None,
        responses={201: envelope("SampleWritten", SampleFields())},
    )
    @action(detail=True, methods=["post"])
    def test(self, _request: Request, **_: str) -> Response:
        self.content(Nothing)
        sample = requests.send_sample(actor=self.user, **self._ids())
        return written(SampleFields(sample).data, status=201)

    @extend_schema(
        operation_id="rotate_signing_secret",
        summary="Make a new signing secret",
        request=SecretRotation,
        responses={201: WITH_SECRET},
    )
    @action(detail=True, methods=["post"], url_path="signing-secret/rotate")
    def rotate_signing_secret(self, _request: Request, **_: str) -> Response:
        made = operations.rotate_signing_secret(
            actor=self.user, **self._ids(), revision=self.expected, **self.content(SecretRotation)
        )
        return _with_secret(made.destination, made.signing_secret)

    def _ids(self) -> dict[str, Any]:
        return {"account_id": self.id("account_id"), "destination_id": self.id("destination_id")}

    def _readable(self) -> "QuerySet[Destination]":
        account_id = self.id("account_id")
        access.require(self.user, account_id, Action.READ_DESTINATION)
        return queries.destinations_of(account_id)

    def _content(self, *, partial: bool = False) -> dict[str, Any]:
        content = self.content(DestinationFields, partial=partial)
        if "shown_headers" in content:
            content["headers"] = content.pop("shown_headers")
        return content


def _with_secret(destination: "Destination", signing_secret: str) -> Response:
    shown = DestinationFields(destination).data | {"signing_secret": signing_secret}
    return written(shown, status=201, revision=destination.revision)


def _written(destination: "Destination") -> Response:
    return written(DestinationFields(destination).data, revision=destination.revision)
