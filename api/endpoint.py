"""What do all resources share? Who may come in, what is read, and how writes are answered."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

from django.utils.cache import patch_vary_headers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from api import errors, idempotency, pagination, preconditions
from api.authentication import Bearer, Session
from api.fields import Strict
from api.filters import Filtering
from api.formats import AlwaysJson, Json, StrictJson
from api.schema import Schema
from api.throttles import Throttled

if TYPE_CHECKING:
    from accounts.models import User

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class Endpoint(Throttled, GenericViewSet[Any]):
    """A resource. Its methods translate, make one domain call, and translate back."""

    authentication_classes = [Bearer, Session]
    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJson]
    renderer_classes = [Json]
    content_negotiation_class = AlwaysJson
    metadata_class = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    schema = Schema()
    pagination_class = pagination.ByCursor
    filter_backends = [Filtering]
    orderings: ClassVar[dict[str, str]] = {}
    default_ordering = ""
    unique = "id"
    answers_once = True
    """Whether POST honours `Idempotency-Key`."""
    post: Callable[..., Response]
    # A subclass's `queryset` is read by the OpenAPI document alone, which asks it for its model.

    def get_exception_handler(self) -> Callable[..., Any]:
        return errors.handle

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action is not None:
            self._refuse_unknown_parameters(request)
        if self.action is not None and self.answers_once and request.method == "POST":
            self._answer_once(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answered = super().finalize_response(request, response, *args, **kwargs)
        found = request.method in {"GET", "HEAD"} and answered.status_code == HTTPStatus.OK
        answered.headers.setdefault("Cache-Control", "private, no-cache" if found else "no-store")
        patch_vary_headers(answered, ("Authorization", "Cookie"))
        return answered

    @property
    def expected(self) -> int | None:
        """The revision that the client has seen; None: it did not say. For an operation's `revision`."""
        return preconditions.revision(self.request)

    @property
    def user(self) -> "User":
        """Who is asking; only behind `IsAuthenticated`."""
        return cast("User", self.request.user)

    def id(self, name: str) -> UUID:
        """An id of the path. What is no id names nothing that there is: 404."""
        text = self.kwargs[name]
        if not _ID.fullmatch(text):
            raise NotFound
        return UUID(text)

    def content(self, serializer: type[Strict], *, partial: bool = False) -> dict[str, Any]:
        """The request's fields. Raises ValidationError."""
        checked = serializer(data=self.request.data, partial=partial, context=self.get_serializer_context())
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)

    def known_parameters(self) -> set[str]:
        if self.action != "list":
            return set()
        filters = getattr(self, "filterset_class", None)
        return {*pagination.PARAMETERS, *(filters.base_filters if filters else ())}

    def _answer_once(self, request: Request) -> None:
        """Wraps the method that DRF looks up next, and calls."""
        key = idempotency.key(request)
        if key is None:
            return
        account_id = self.id("account_id") if "account_id" in self.kwargs else None
        post = self.post

        def once(request: Request, *args: Any, **kwargs: Any) -> Response:
            return idempotency.once(
                user=self.user,
                key=key,
                request=request,
                account_id=account_id,
                ask=lambda: post(request, *args, **kwargs),
            )

        self.post = once

    def _refuse_unknown_parameters(self, request: Request) -> None:
        known = self.known_parameters()
        refused = {
            name: ["This parameter is not known here."] for name in request.query_params if name not in known
        }
        for name, values in request.query_params.lists():
            if len(values) > 1:
                refused[name] = ["Give it once."]
        if refused:
            raise ValidationError(refused)


def found(data: Any, *, revision: int) -> Response:
    """How a thing that has a revision is read."""
    return Response(data, headers={"ETag": preconditions.tag(revision)})


def written(data: Any, *, status: int = 200, revision: int | None = None) -> Response:
    """How every write is answered; `revision`: of the thing that the path names, or that was made."""
    headers = {} if revision is None else {"ETag": preconditions.tag(revision)}
    return Response({"success": True, "message": "Data Received", "data": data}, status, headers=headers)
