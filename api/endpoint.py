"""What do all resources share? Who may come in, what is read, and how writes are answered."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from api import errors, pagination
from api.authentication import Bearer, Session
from api.fields import Strict
from api.filters import Filtering
from api.formats import AlwaysJson, Json, StrictJson
from api.schema import Schema

if TYPE_CHECKING:
    from accounts.models import User

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class Endpoint(GenericViewSet[Any]):
    """A resource. Its methods translate, make one domain call, and translate back."""

    authentication_classes = [Bearer, Session]
    permission_classes = [IsAuthenticated]
    parser_classes = [StrictJson]
    renderer_classes = [Json]
    content_negotiation_class = AlwaysJson
    metadata_class = None
    schema = Schema()
    pagination_class = pagination.ByCursor
    filter_backends = [Filtering]
    orderings: ClassVar[dict[str, str]] = {}
    default_ordering = ""
    unique = "id"
    # A subclass's `queryset` is read by the OpenAPI document alone, which asks it for its model.

    def get_exception_handler(self) -> Callable[..., Any]:
        return errors.handle

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action is not None:
            self._refuse_unknown_parameters(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answered = super().finalize_response(request, response, *args, **kwargs)
        answered.headers.setdefault("Cache-Control", "no-store")
        return answered

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


def written(data: Any, *, status: int = 200) -> Response:
    """How every write is answered."""
    return Response({"success": True, "message": "Data Received", "data": data}, status)
