"""How are lists searched? django-filter, with names and types that stand in the OpenAPI document."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django_filters.fields import IsoDateTimeField
from django_filters.filterset import FilterSet
from django_filters.rest_framework.backends import DjangoFilterBackend
from django_filters.utils import translate_validation
from rest_framework.request import Request

from api import moments
from api.fields import none_of

LONGEST_SEARCH = 200


class Filtering(DjangoFilterBackend):
    """Makes its forms, a third of a list's time, only for those who filter."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        filters = getattr(view, "filterset_class", None)
        if filters is None or request.query_params.keys().isdisjoint(filters.base_filters):
            return queryset
        found: QuerySet[Any] = super().filter_queryset(  # type: ignore[no-untyped-call] # django-filter has no types
            request, queryset, view
        )
        return found


def asked(request: Request, filters: Any, rows: QuerySet[Any]) -> dict[str, Any]:
    """What the filters of a list are given, by name and clean; for lists that find their rows themselves.

    `filters`: a FilterSet; `rows`: any query of the model. Raises ValidationError.
    """
    if request.query_params.keys().isdisjoint(filters.base_filters):
        return {}
    given = filters(request.query_params, queryset=rows, request=request)
    if not given.is_valid():
        raise translate_validation(given.errors)
    return {name: value for name, value in given.form.cleaned_data.items() if value not in ("", None)}


class _MomentField(IsoDateTimeField):
    def to_python(self, value: Any) -> datetime | None:
        moment: datetime | None = super().to_python(value)
        return None if moment is None else moments.in_utc(moment)


class Moment(django_filters.IsoDateTimeFilter):
    """ISO 8601 with any offset."""

    field_class = _MomentField

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)  # type: ignore[no-untyped-call] # django-filter has no types


class Text(django_filters.CharFilter):
    """The text, as it is: not trimmed. A name may begin with a space."""

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, strip=False, **options)  # type: ignore[no-untyped-call] # django-filter has no types


class Search(Text):
    """Rows that contain the text in any of these fields, in upper or lower case."""

    def __init__(self, *fields: str, **options: Any) -> None:
        options.setdefault("label", f"Contained in {' or '.join(fields)}.")
        super().__init__(max_length=LONGEST_SEARCH, **options)
        self._fields = fields

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return qs
        found = Q()
        for field in self._fields:
            found |= Q(**{f"{field}__icontains": value})
        return qs.filter(found)


class Kept(FilterSet):
    """What accounts, destinations and members share: ids, people and moments."""

    id = django_filters.UUIDFilter()
    created_by = django_filters.UUIDFilter(field_name="created_by_id")
    updated_by = django_filters.UUIDFilter(field_name="updated_by_id")
    created_at = Moment()
    created_at_after = Moment("created_at", "gte")
    created_at_before = Moment("created_at", "lte")
    updated_at = Moment()
    updated_at_after = Moment("updated_at", "gte")
    updated_at_before = Moment("updated_at", "lte")


class Choice(django_filters.ChoiceFilter):
    """One of these texts."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        pairs = [(choice, choice) for choice in choices]
        super().__init__(choices=pairs, error_messages=none_of(choices), **options)  # type: ignore[no-untyped-call] # django-filter has no types


class Flag(Choice):
    """`true` or `false`, and nothing that merely looks like it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(("true", "false"), **options)

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        return qs.filter(**{self.field_name: value == "true"}) if value else qs
