"""Which JSON types do fields take? Exactly their own: a number is no text, "true" is no flag, 5.0 is no 5."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from api import moments

# A body has room for half a million members; each that is looked at, or told to be wrong, takes its time.
MOST_TOLD = 100
MOST_MEMBERS = 100
TOO_MANY = f"There are more than {MOST_MEMBERS}."


class Text(serializers.CharField):
    """A string, as it is: not trimmed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Number(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


def none_of(choices: Sequence[str]) -> dict[str, Any]:
    """The words for it: they name what may be sent, and not what was, which may be a secret out of place."""
    return {"invalid_choice": f"It must be one of {', '.join(choices)}."}


class Choice(serializers.ChoiceField):
    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices, error_messages=none_of(choices), **options)


class Texts(serializers.DictField):
    """An object of strings: header names and values."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=Text(allow_blank=True), **options)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        if len(data) > MOST_MEMBERS:
            raise ValidationError(TOO_MANY)
        return super().to_internal_value(data)


class Numbers(serializers.ListField):
    """A list of numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=Number(), **options)

    def to_internal_value(self, data: Any) -> list[int]:
        if isinstance(data, list) and len(data) > MOST_MEMBERS:
            raise ValidationError(TOO_MANY)
        return super().to_internal_value(data)


@extend_schema_field(OpenApiTypes.DATETIME)
class Moment(serializers.Field[datetime, datetime, str, Any]):
    """When; written by us alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"read_only": True, **options})

    def to_representation(self, value: datetime) -> str:
        return moments.as_text(value)


class Strict(serializers.Serializer[Any]):
    """A serializer that refuses what it does not know. What is read only may be sent back, and is ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = itertools.islice((name for name in data if name not in self.fields), MOST_TOLD)
            if refused := {str(name): ["This field is not known."] for name in unknown}:
                raise ValidationError(refused)
        return super().to_internal_value(data)


class Nothing(Strict):
    """For requests without content."""
