"""How is a short list of whole numbers stored? As `integer[]`.

Django's own ArrayField wants `django.contrib.postgres` installed, which asks every new connection for the
types of extensions that we don't use.
"""

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    _Field = models.Field[list[int], list[int]]
else:
    _Field = models.Field  # generic for the type checker only


class WholeNumbers(_Field):
    """A list of integers. Neither null nor searched in."""

    empty_values: list[Any] = [None]  # an empty list is a value

    def db_type(self, connection: BaseDatabaseWrapper) -> str:  # noqa: ARG002  # Django's signature
        return "integer[]"

    def get_prep_value(self, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value
