"""How is a list cut into pages? By the values of its last row, so that page 1,000 costs what page 1 costs.

The order is one field and then the id, both in the same direction, so that one index gives both and no row is
shown twice or left out when others come and go.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

import orjson
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model, Q, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from api import moments

PAGE_SIZE = 50
LARGEST_PAGE = 100
PARAMETERS = ("cursor", "page_size", "ordering")
_PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE_SIZE}
POSITION_PARAMETERS = ("after", "page_size")
LARGEST_POSITION = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Order:
    """The name that clients use, with `-` for descending, and the model's field behind it."""

    name: str
    field: str
    unique: str

    @property
    def descending(self) -> bool:
        return self.name.startswith("-")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins: after the row with these two values, or before it."""

    ordering: str
    backward: bool
    value: Any
    unique: str

    def encode(self) -> str:
        raw = orjson.dumps([self.ordering, self.backward, self.value, self.unique], default=str)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Source(Protocol):
    """Finds the rows of a page in a way of its own. `start`: the field and the id of the row before it."""

    @property
    def model(self) -> type[Model]: ...

    def page(self, *, start: tuple[Any, Any] | None, descending: bool, most: int) -> list[Any]: ...


def decode(text: str) -> Cursor:
    """Raises ValueError."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        ordering, backward, value, unique = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError("no cursor") from error
    if not (isinstance(ordering, str) and isinstance(backward, bool) and isinstance(unique, str)):
        raise ValueError("no cursor")  # noqa: TRY004 (to the caller it is a bad value)
    return Cursor(ordering, backward, value, unique)


class ByCursor(BasePagination):
    """Needs of its view: `orderings` (the names that clients may use, by field) and `unique`."""

    def paginate_queryset(
        self,
        queryset: QuerySet[Any] | Sequence[Any] | Source,
        request: Request,
        view: APIView | None = None,
    ) -> list[Any]:
        if isinstance(queryset, Sequence):
            raise TypeError("only queries can be cut by cursors")
        self._url = request.build_absolute_uri()
        self._size = _page_size(request.query_params)
        self._order = _order(request.query_params, view)
        self._cursor = _cursor(request.query_params, self._order)
        backward = self._cursor is not None and self._cursor.backward
        rows = self._rows(queryset, backward=backward, most=self._size + 1)
        self._more = len(rows) > self._size
        page = rows[: self._size]
        self._page = page[::-1] if backward else page
        return self._page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next(), "previous": self._previous(), "results": data})

    def _rows(self, source: QuerySet[Any] | Source, *, backward: bool, most: int) -> list[Any]:
        order = self._order
        start = None if self._cursor is None else _start(self._cursor, order, source.model)
        descending = order.descending != backward
        if not isinstance(source, QuerySet):
            return source.page(start=start, descending=descending, most=most)
        if start is not None:
            source = source.filter(_beyond(start, order, lower=descending))
        sign = "-" if descending else ""
        return list(source.order_by(sign + order.field, sign + order.unique)[:most])

    def _next(self) -> str | None:
        came_back = self._cursor is not None and self._cursor.backward
        return (
            self._link(self._page[-1], backward=False) if self._page and (came_back or self._more) else None
        )

    def _previous(self) -> str | None:
        if self._cursor is None or not self._page:
            return None
        return self._link(self._page[0], backward=True) if self._more or not self._cursor.backward else None

    def _link(self, row: Any, *, backward: bool) -> str:
        order = self._order
        value = attrgetter(order.field.replace("__", "."))(row)
        cursor = Cursor(order.name, backward, value, str(getattr(row, order.unique)))
        return replace_query_param(self._url, "cursor", cursor.encode())

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**link, "description": "The following page; null on the last one."},
                "previous": {**link, "description": "The page before; null on the first one."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        names = [f"{sign}{name}" for name in view.orderings for sign in ("", "-")]
        return [
            _parameter("cursor", {"type": "string"}, "From `next` or `previous`."),
            _parameter("page_size", _PAGE_SIZE, "How many at most."),
            _parameter(
                "ordering",
                {"type": "string", "enum": names, "default": view.default_ordering},
                "By which field; `-` for descending.",
            ),
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of the history begins, and how long it is."""

    url: str
    after: int
    size: int

    def link(self, after: int | None) -> str | None:
        return None if after is None else replace_query_param(self.url, "after", str(after))


def place(request: Request) -> Place:
    """Raises ValidationError."""
    text = request.query_params.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_POSITION):
        raise ValidationError({"after": [f"A whole number from 0 to {LARGEST_POSITION}."]})
    return Place(request.build_absolute_uri(), int(text), _page_size(request.query_params))


class ByPosition(ByCursor):
    """For the document alone: the history is no query of the ORM; its view reads it by `place`."""

    def get_schema_operation_parameters(self, _view: Any) -> list[dict[str, Any]]:
        after = {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "maximum": LARGEST_POSITION,
            "default": 0,
        }
        return [
            _parameter("after", after, "Only what comes after this position."),
            _parameter("page_size", _PAGE_SIZE, "How many at most."),
        ]


def _parameter(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _page_size(parameters: Mapping[str, str]) -> int:
    text = parameters.get("page_size", str(PAGE_SIZE))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LARGEST_PAGE):
        raise ValidationError({"page_size": [f"A whole number from 1 to {LARGEST_PAGE}."]})
    return int(text)


def _order(parameters: Mapping[str, str], view: Any) -> Order:
    orderings: Mapping[str, str] = view.orderings
    name = parameters.get("ordering", view.default_ordering)
    field = orderings.get(name.removeprefix("-"))
    if field is None:
        names: Sequence[str] = sorted(orderings)
        raise ValidationError({"ordering": [f"One of {', '.join(names)}; with - before it: descending."]})
    return Order(name, field, view.unique)


def _cursor(parameters: Mapping[str, str], order: Order) -> Cursor | None:
    text = parameters.get("cursor")
    if text is None:
        return None
    try:
        cursor = decode(text)
    except ValueError:
        cursor = None
    if cursor is None or cursor.ordering != order.name:
        raise ValidationError({"cursor": ["It is not from a link of this list, in this order."]})
    return cursor


def _start(cursor: Cursor, order: Order, model: type[Model]) -> tuple[Any, Any]:
    try:
        return _clean(model, order.field, cursor.value), _clean(model, order.unique, cursor.unique)
    except (DjangoValidationError, TypeError, ValueError):
        raise ValidationError({"cursor": ["It is not from a link of this list, in this order."]}) from None


def _beyond(start: tuple[Any, Any], order: Order, *, lower: bool) -> Q:
    """The rows after the one with these values, in the direction of reading."""
    value, unique = start
    way = "lt" if lower else "gt"
    # The first condition alone is what the index is entered by.
    return Q(**{f"{order.field}__{way}e": value}) & (
        Q(**{f"{order.field}__{way}": value}) | Q(**{f"{order.unique}__{way}": unique})
    )


def _clean(model: type[Model], field: str, value: Any) -> Any:
    *relations, name = field.split("__")
    for relation in relations:
        model = model._meta.get_field(relation).related_model  # type: ignore[assignment] # noqa: SLF001 (Django documents _meta; orderings go over foreign keys)
    column = model._meta.get_field(name)  # noqa: SLF001
    cleaned = column.to_python(value)  # type: ignore[union-attr] # orderings name plain columns
    if cleaned is None or (isinstance(cleaned, str) and "\x00" in cleaned):
        raise ValueError("no value")
    if isinstance(cleaned, datetime):
        if cleaned.tzinfo is None:
            raise ValueError("no moment of ours")
        return moments.in_utc(cleaned)
    return cleaned
