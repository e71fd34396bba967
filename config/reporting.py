"""Who hears of errors? Sentry, where `SENTRY_DSN` is set: of everything that is logged as an error, no more.

One rule for all doors: Django, the receiver and the workers log what nobody foresaw, so one integration is
enough, and nothing of Django or of the database is patched. What is sent is made by the logs' rules: kinds of
errors and places in our code; no requests, no headers, no users, no variables, no statements.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import structlog

from config import logs, told
from config.environment import SettingError
from config.release import VERSION

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_KEPT = frozenset(
    (
        *("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name"),
        *("exception", "logentry", "sdk", "contexts", "tags"),
    )
)


def checked_dsn(value: str) -> str:
    """Raises SettingError without quoting it."""
    if value:
        from sentry_sdk.utils import BadDsn, Dsn  # noqa: PLC0415 - only where it is wanted

        try:
            Dsn(value)
        except (BadDsn, ValueError):
            raise SettingError("SENTRY_DSN must be like https://key@host/project") from None
    return value


def begin(*, dsn: str, environment: str) -> None:
    """Once in a process; what it forks goes on."""
    if not dsn:
        return
    import sentry_sdk  # noqa: PLC0415 - only where it is wanted
    from sentry_sdk.integrations.atexit import AtexitIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.dedupe import DedupeIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.logging import LoggingIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.threading import ThreadingIntegration  # noqa: PLC0415

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=f"data-pusher@{VERSION}",
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            LoggingIntegration(level=None, event_level=logging.ERROR, sentry_logs_level=None),
            ThreadingIntegration(propagate_scope=False),
            ExcepthookIntegration(),
            DedupeIntegration(),
            AtexitIntegration(callback=_quietly),
        ],
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        propagate_traces=False,
        before_send=careful,
    )


def careful(event: "Event", hint: "Hint") -> "Event | None":
    """What is sent of an event: by this list, not by a list of what is dangerous. None: nothing."""
    record = hint.get("log_record")
    if record is not None and logs.is_clients_fault(record):
        return None
    kept: Any = {name: value for name, value in event.items() if name in _KEPT}
    kept["tags"] = dict(_tags(record))
    if record is not None:
        kept["logentry"] = {"message": logs.without_quotes(record).getMessage()}
    error = (hint.get("exc_info") or (None, None, None))[1]
    words = dict(_words(error)) if error is not None else {}
    for value in kept.get("exception", {}).get("values", []):
        value["value"] = words.get(value.get("type"), "")
        value.pop("mechanism", None)
    return kept  # type: ignore[no-any-return]  # Sentry's type names every field


def _tags(record: logging.LogRecord | None) -> Iterator[tuple[str, str]]:
    request = getattr(record, "request", None)
    if request is not None:
        yield "method", request.method
        yield "route", logs.route_of(request)
    yield from structlog.contextvars.get_contextvars().items()


def _words(error: BaseException) -> Iterator[tuple[str, str]]:
    for one, _ in told.chain(error):
        yield type(one).__name__, told.words(one).partition(": ")[2]
        if isinstance(one, BaseExceptionGroup):
            for inner in one.exceptions:
                yield from _words(inner)


def _quietly(_pending: int, _seconds: float) -> None:
    """Sentry would print a line to wait by."""
