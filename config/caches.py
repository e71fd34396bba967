"""Where are cached queries kept? In Redis when there is one, else in the process; bounded either way.

What is lost here is asked of PostgreSQL again, so a cache that fails is an empty one.
"""

import importlib
import logging
import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

MOST_BYTES = 64 << 10  # of one result: with MAX_ENTRIES, a bound for a process' memory
MAX_ENTRIES = 1000

log = logging.getLogger(__name__)


class _Bounded(BaseCache):
    """Keeps no large results: those who read may choose how many different ones there are.

    And none of cachalot's notes of when it saw a table written: the generation tells more, and a write, which
    holds locks, has nothing to wait for here. (Such a note comes alone; beside a result it is needed.)
    """

    def set_many(
        self, data: Mapping[Any, Any], timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        if all(isinstance(value, float) for value in data.values()):
            return []
        small = {key: value for key, value in data.items() if len(pickle.dumps(value)) <= MOST_BYTES}
        return super().set_many(small, timeout, version)


class InProcess(_Bounded, LocMemCache):
    """Each process has its own: they agree because a generation is PostgreSQL's."""


class Shared(_Bounded, RedisCache):
    """Redis, in nobody's way when it is gone."""

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        try:
            return super().get_many(keys, version)
        except self._failures() as error:
            log.warning("the cache can't be read: %s", error)
            return {}

    def set_many(
        self, data: Mapping[Any, Any], timeout: float | None = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        try:
            return super().set_many(data, timeout, version)
        except self._failures() as error:
            log.warning("the cache can't be written: %s", error)
            return list(data)

    @staticmethod
    def _failures() -> tuple[type[Exception], ...]:
        library = importlib.import_module("redis")  # only those who have a Redis have it
        return (OSError, library.RedisError)
