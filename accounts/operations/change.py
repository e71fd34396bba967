"""How is a change applied: is it about what the caller saw, is it valid, and does it change anything?"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import DateTimeField, ExpressionWrapper, Model
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from accounts.models import Revised

LONGEST_OVERLAP_SECONDS = 7 * 24 * 3600


class Invalid(Exception):
    """Values that can't be; `errors` has the messages by field."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)

    @classmethod
    def of(cls, field: str, error: ValidationError) -> "Invalid":
        return cls({field: error.messages})


class Stale(Exception):
    """The thing was changed since the caller read it; `revision` is the present one."""

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision


def check_revision(thing: Revised, revision: int | None) -> None:
    """None: whatever it is now. Raises Stale."""
    if revision is not None and revision != thing.revision:
        raise Stale(thing.revision)


def check(thing: Model, fields: Iterable[str], errors: Mapping[str, list[str]] | None = None) -> None:
    """Run these fields' validators, adding to `errors`. Raises Invalid."""
    found = dict(errors or {})
    others = {field.name for field in thing._meta.fields} - set(fields)  # noqa: SLF001  # Django's public API
    try:
        thing.clean_fields(exclude=others)
    except ValidationError as error:
        found |= error.message_dict
    if found:
        raise Invalid(found)


def assign(thing: Model, changes: Mapping[str, Any]) -> list[str]:
    """Set the fields; answers the names of those that are different now, in order."""
    changed = sorted(name for name, value in changes.items() if getattr(thing, name) != value)
    for name in changed:
        setattr(thing, name, changes[name])
    return changed


def check_names(changes: Mapping[str, Any], changeable: frozenset[str]) -> None:
    if unknown := changes.keys() - changeable:
        raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")


def check_overlap(seconds: int) -> None:
    if not 0 <= seconds <= LONGEST_OVERLAP_SECONDS:
        raise Invalid({"overlap_seconds": [f"An overlap is from 0 to {LONGEST_OVERLAP_SECONDS} seconds."]})


def in_seconds(seconds: int) -> Combinable:
    """That long from now, by the database's clock."""
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())
