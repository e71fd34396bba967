"""How does a log line look? One JSON object a line, or a line for people; whoever logs, with the same care.

Loggers are Python's own, and everything flows through one formatter: ours, Django's, Django-Q2's, granian's.
What clients send never stands in a line: not their secrets, not a path or a query, not an error that quotes
them (ADR "Seen from outside"). Plain: granian's first process uses it without Django.
"""

import logging
import os
import re
from typing import Any

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo

from config import told

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
JSON, LINE = "json", "line"
FORMATS = (JSON, LINE)
REQUEST_FIELDS = ("method", "route", "status", "duration_ms", "user_id", "address")
ATTEMPT_FIELDS = ("delivery_id", "destination_id")
FIELDS = ("request_id", *REQUEST_FIELDS, *ATTEMPT_FIELDS)

# Their debug lines tell statements with parameters, headers and addresses of destinations.
_CHATTY = ("django.db", "django.template", "psycopg", "httpx", "httpcore", "aiohttp", "urllib3", "sentry_sdk")
# Of these, the first line is theirs; what follows quotes an exception.
_QUOTING = {"asyncio": "\n", "_granian": "\n", "django-q": " - "}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configuration(*, level: str, form: str) -> dict[str, Any]:
    """Django's LOGGING."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"unforeseen": {"()": "config.logs.Unforeseen"}},
        "formatters": {"told": {"()": "config.logs.formatter", "form": form}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "told"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # Django's own handlers would print errors a second time, in another form.
            "django": {"handlers": [], "level": "NOTSET"},
            "django.server": {"handlers": [], "propagate": True},
            # A client's mistake is the client's to know, and a foreseen failure (503) has its line already.
            "django.request": {"level": "ERROR", "filters": ["unforeseen"]},
            "django-q": {"level": "WARNING"},  # each task that begins and ends
            **{name: {"level": "WARNING"} for name in _CHATTY},
        },
    }


def formatter(form: str = "") -> ProcessorFormatter:
    """The one formatter; without `form`, that of the environment."""
    form = form or os.environ.get("LOG_FORMAT", "").strip() or JSON
    return _Careful(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=FIELDS),
        ],
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_traced),
            ProcessorFormatter.remove_processors_meta,
            _as_line if form == LINE else _as_json,
        ],
    )


class Unforeseen(logging.Filter):
    """Lets pass what has a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        return bool(record.exc_info)


class _Careful(ProcessorFormatter):
    """Before a record is put into words: takes out what may quote a client."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(without_quotes(record))


def without_quotes(record: logging.LogRecord) -> logging.LogRecord:
    """A copy whose message has no path, no exception's words, and nothing of a suspicious request."""
    clean = logging.makeLogRecord(record.__dict__)
    if is_clients_fault(record):
        clean.msg, clean.args = "a request was refused: %s", (record.name.rpartition(".")[2],)
        clean.levelno, clean.levelname = logging.WARNING, "WARNING"
        clean.exc_info = clean.exc_text = None
        return clean
    request = getattr(record, "request", None)
    if isinstance(record.args, tuple):
        clean.args = tuple(_tame(arg, request) for arg in record.args)
    if end := _QUOTING.get(record.name.partition(".")[0]):
        clean.msg, clean.args = clean.getMessage().partition(end)[0], ()
    return clean


def is_clients_fault(record: logging.LogRecord) -> bool:
    """Django logs a host that is not ours as an error with its traceback: anybody can send many."""
    return record.name.startswith("django.security")


def _tame(arg: object, request: Any) -> object:
    if isinstance(arg, BaseException):
        return told.words(arg)
    if request is not None and arg == getattr(request, "path", None):
        return route_of(request)
    return arg


def route_of(request: Any) -> str:
    """The pattern that the path fits, never the path: that is the client's text. "" when it fits none."""
    return getattr(getattr(request, "resolver_match", None), "route", "") or ""


def _traced(exc_info: ExcInfo) -> str:
    return told.trace(exc_info[1])


def _as_json(_logger: Any, _name: str, fields: EventDict) -> str:
    first = ("timestamp", "level", "logger", "event", "request_id")
    ordered = {name: fields[name] for name in first if name in fields}
    return orjson.dumps({**ordered, **fields}, default=str).decode()


def _as_line(_logger: Any, _name: str, fields: EventDict) -> str:
    at, level = str(fields.pop("timestamp")), str(fields.pop("level")).upper()
    head = f"{at} {level} {fields.pop('logger')}: {fields.pop('event')}"
    exception = fields.pop("exception", "")
    said = " ".join((head, *(f"{name}={value}" for name, value in fields.items() if value not in {None, ""})))
    return "\n".join(filter(None, (_CONTROL.sub(" ", said), exception)))
