"""Which queries may the cache answer? Those of a request that only reads, by the generation that it found.

Each commit that changes a cached table makes the next generation in PostgreSQL (migration 0003). A request
reads it there, and what it stores or looks up in the cache goes by it: nothing that was read before a commit
is found by a request that began after it. (ADR "Cached by generation" has the argument, case by case.)
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from cachalot import monkey_patch
from cachalot.signals import post_invalidation
from cachalot.utils import UncachableQuery, get_query_cache_key, is_cachable
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Func, TextField
from django.db.models.sql.compiler import SQLCompiler

# The number alone would come again: in another database, after a restored dump, on a replica that took over.
_NAME = """
(SELECT concat_ws(':', current_database(), tableoid, extract(epoch FROM pg_postmaster_start_time()),
                  number, xid)
   FROM public.accounts_generation)
"""
# What cachalot finds at the top of a condition only, we find anywhere.
_VOLATILE = re.compile(r"timestamp\(|\bnow\(|\brandom\(|current_")


class Generation(Func):
    """The present generation's name; a query that is asked anyway can bring it along."""

    template = _NAME
    output_field = TextField()


@dataclass(slots=True)
class _Reading:
    """One request that only reads."""

    generation: str | None = None  # not known yet
    has_written: bool = False
    asides: int = 0


_reading: ContextVar[_Reading | None] = ContextVar("reading", default=None)


def connect() -> None:
    """After cachalot's own start."""
    post_invalidation.connect(_forget, dispatch_uid="accounts.generations")
    # Nothing is cached in a transaction, so cachalot's layer around `atomic` has nothing to do. A connect
    # that fails would leave it behind, and the thread would never use the shared cache again (cachalot#269).
    monkey_patch._unpatch_atomic()  # noqa: SLF001 (cachalot has no setting for it)


@contextmanager
def reading() -> Iterator[None]:
    """What this thread asks in here may be cached, until it writes."""
    token = _reading.set(_Reading())
    try:
        yield
    finally:
        _reading.reset(token)


@contextmanager
def past_the_cache() -> Iterator[None]:
    """What is asked in here is asked of PostgreSQL: what decides who may do what."""
    present = _reading.get()
    if present is None:
        yield
        return
    present.asides += 1
    try:
        yield
    finally:
        present.asides -= 1


def found(generation: str | None) -> None:
    """A query brought it along. The first counts: what the request asked before it is older."""
    present = _reading.get()
    if present is not None and present.generation is None:
        present.generation = generation


def key(compiler: SQLCompiler) -> str:
    """CACHALOT_QUERY_KEYGEN. Raises UncachableQuery, as a rule before the SQL is made."""
    present = _reading.get()
    if present is None or present.has_written or present.asides or not _may_be_cached(compiler):
        raise UncachableQuery
    query: str = get_query_cache_key(compiler)
    if _VOLATILE.search(vars(compiler)["__cachalot_generated_sql"]):
        raise UncachableQuery
    if present.generation is None:
        present.generation = _ask(compiler.connection)
    if present.generation is None:
        raise UncachableQuery
    return hashlib.sha256(f"{present.generation} {query}".encode()).hexdigest()


def _may_be_cached(compiler: SQLCompiler) -> bool:
    meta = compiler.query.get_meta()
    return (
        compiler.using == DEFAULT_DB_ALIAS
        and not compiler.connection.in_atomic_block
        and meta is not None
        and is_cachable(meta.db_table)
    )


def _ask(connection: BaseDatabaseWrapper) -> str | None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_NAME}")
        row = cursor.fetchone()
    return None if row is None else row[0]


def _forget(**_: Any) -> None:
    present = _reading.get()
    if present is not None:
        present.has_written = True
