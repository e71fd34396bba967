"""Does every line of log have one form, and does none of them tell a secret?"""

import asyncio
import io
import json
import logging
import logging.config
import re
import ssl
from uuid import uuid4

import psycopg
import pytest
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIHandler
from django.db import IntegrityError, connection, connections
from django.test import RequestFactory
from psycopg import errors

from accounts import operations
from api import health, metrics, receiver
from api.bridge import Bridge
from api.doors import Doors
from api.endpoint import Endpoint
from config import logs, told
from outbox.intake import Intake
from outbox.worker.faults import Faults
from tests.api import asgi
from tests.api.conftest import PASSWORD, person


@pytest.fixture
def written():
    """Our configuration in place of pytest's, writing to a text."""
    text = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def configure(form="json", level="DEBUG"):
        logging.config.dictConfig(logs.configuration(level=level, form=form))
        root.handlers[0].setStream(text)
        return text

    try:
        yield configure
    finally:
        logging.config.dictConfig(logs.configuration(level="INFO", form="json"))
        root.handlers[:], root.level = before


def lines(text):
    return [json.loads(line) for line in text.getvalue().splitlines()]


def caught(kind, *arguments):
    try:
        raise kind(*arguments)  # noqa: TRY301 - it shall have a traceback
    except kind as error:
        return error


# --- one form ---------------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_its_time_in_utc(written):
    text = written()
    logging.getLogger("outbox.worker").warning("%d sends\nfailed", 3)
    [line] = lines(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {"level": "warning", "logger": "outbox.worker", "event": "3 sends\nfailed"}


def test_a_traceback_is_in_the_line_and_tells_places_without_variables(written):
    text = written()

    def fall():
        local_variable = "s3cret"
        raise ValueError(f"bad value {local_variable}")

    try:
        fall()
    except ValueError:
        logging.getLogger("somewhere").exception("it fell")
    [line] = lines(text)
    assert line["event"] == "it fell"
    assert "in fall" in line["exception"]
    assert line["exception"].endswith("\nValueError")
    assert "s3cret" not in text.getvalue()


@pytest.mark.parametrize("name", ["django.request", "_granian", "django-q", "asyncio", "py.warnings", "new"])
def test_everybody_speaks_it(written, name):
    text = written()
    logging.getLogger(name).error("said", exc_info=caught(RuntimeError))
    [line] = lines(text)
    assert (line["logger"], line["event"], line["level"]) == (name, "said", "error")


def test_for_people_it_is_a_line_with_the_traceback_behind(written):
    text = written("line")
    logging.getLogger("api.health").warning("first\nFORGED 2026 ERROR \x1b[31m %s", "x")
    logging.getLogger("api").error("fell", exc_info=caught(KeyError, "s3cret"))
    first, second, *trace = text.getvalue().splitlines()
    assert re.fullmatch(r"\S+Z WARNING api\.health: first FORGED 2026 ERROR  \[31m x", first)
    assert second.endswith(" ERROR api: fell")
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "KeyError")


def test_what_is_bound_to_the_context_is_in_each_line(written):
    import structlog

    text = written()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.getLogger("a").warning("one")
    logging.getLogger("a").warning("two")
    one, two = lines(text)
    assert (one["request_id"], "request_id" in two) == ("r1", False)


def test_fields_that_nobody_listed_are_left_out(written):
    text = written()
    logging.getLogger("a").warning("x", extra={"status": 200, "body": "s3cret", "request": object()})
    assert lines(text)[0].keys() == {"timestamp", "level", "logger", "event", "status"}


def test_the_chatty_do_not_speak_even_at_debug(written):
    text = written(level="DEBUG")
    for name in ("httpx", "httpcore.http11", "django.db.backends", "psycopg", "aiohttp.client", "urllib3"):
        logging.getLogger(name).info("Authorization: Bearer s3cret")
    assert text.getvalue() == ""


# --- no quotes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (caught(ValueError, "s3cret"), "ValueError"),
        (caught(KeyError, "s3cret"), "KeyError"),
        (caught(TypeError, "Field 'id' expected a number but got 's3cret'"), "TypeError"),
        (
            caught(AttributeError, "'NoneType' object has no attribute 'x'"),
            "AttributeError: 'NoneType' object has no attribute 'x'",
        ),
        (caught(OSError, 111, "s3cret"), "ConnectionRefusedError: Connection refused"),
        (caught(OSError, "s3cret"), "OSError"),
        (caught(ssl.SSLError, 1, "s3cret"), "ssl.SSLError"),
        (
            caught(psycopg.OperationalError, "connection refused\nIs it running?"),
            "psycopg.OperationalError: connection refused Is it running?",
        ),
        (caught(psycopg.ProgrammingError, "can't adapt 's3cret'"), "psycopg.ProgrammingError"),
    ],
)
def test_of_an_error_only_words_that_quote_nobody_are_told(error, words):
    assert told.words(error) == words
    assert told.trace(error).endswith(words)


@pytest.mark.django_db
def test_errors_of_the_database_tell_state_and_constraint_and_no_value():
    connection.ensure_connection()
    with pytest.raises(psycopg.Error) as number:
        connection.connection.execute("SELECT 's3cret'::int")
    assert "s3cret" in str(number.value)
    assert told.words(number.value) == "psycopg.errors.InvalidTextRepresentation: 22P02"


@pytest.mark.django_db(transaction=False)
def test_a_row_that_collides_is_named_by_its_constraint(db):
    from django.db import transaction

    operations.register_user(email="s3cret@people.example.com", password=PASSWORD)
    statement = "INSERT INTO accounts_user SELECT * FROM accounts_user"
    with pytest.raises(IntegrityError) as double, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert "s3cret" in str(double.value) or "Key" in str(double.value)
    assert re.fullmatch(r"django\.db\.utils\.IntegrityError: 23505 \w+", told.words(double.value))
    assert "s3cret" not in told.trace(double.value)


def test_the_server_may_speak_of_its_own_state():
    class Diagnosis:
        message_primary = "terminating connection due to administrator command"
        constraint_name = None

    class Ended(errors.AdminShutdown):
        diag = Diagnosis()

    assert told.words(Ended()).endswith("57P01 terminating connection due to administrator command")


def test_causes_and_groups_are_told_in_order_and_circles_end():
    first, second = ValueError("s3cret"), RuntimeError("s3cret")
    second.__cause__ = first
    first.__context__ = second
    trace = told.trace(ExceptionGroup("s3cret", [second, KeyError("s3cret")]))
    assert "s3cret" not in trace
    assert trace.index("ValueError") < trace.index("direct cause") < trace.index("RuntimeError")
    assert trace.rstrip().endswith("KeyError")


def test_a_path_is_told_as_its_route(written):
    text = written()
    request = RequestFactory().get("/api/v1/accounts/s3cret/")
    log = logging.getLogger("django.request")
    log.error(
        "%s: %s",
        "Internal Server Error",
        request.path,
        extra={"request": request},
        exc_info=caught(KeyError, "s3cret"),
    )
    [line] = lines(text)
    assert line["event"] == "Internal Server Error: "
    assert "s3cret" not in text.getvalue()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("django.security.DisallowedHost", "Invalid HTTP_HOST header: 's3cret'"),
        ("asyncio", "Task exception was never retrieved\nfuture: <Task exception=ValueError('s3cret')>"),
        ("_granian.utils", "Application callable raised an exception\nTraceback ...\nValueError: s3cret"),
        ("django-q", "Failed 'outbox.tasks.drain' (drain-0) - s3cret : Traceback"),
    ],
)
def test_what_others_quote_is_cut(written, name, message):
    text = written()
    logging.getLogger(name).error(message, exc_info=caught(DisallowedHost, "s3cret"))
    [line] = lines(text)
    assert line["event"]
    assert "s3cret" not in text.getvalue()


def test_what_anybody_can_send_is_no_error_of_ours(written):
    text = written()
    log = logging.getLogger("django.security.DisallowedHost")
    log.error("Invalid HTTP_HOST header: 's3cret'", exc_info=caught(DisallowedHost, "s3cret"))
    [line] = lines(text)
    assert (line["event"], line["level"]) == ("a request was refused: DisallowedHost", "warning")
    assert "exception" not in line


def test_an_error_among_the_arguments_is_told_by_its_words(written):
    text = written()
    logging.getLogger("a").warning("%s failed: %s", "it", caught(ValueError, "s3cret"))
    Faults().note("sending", caught(ValueError, "s3cret"))
    assert "s3cret" not in text.getvalue()
    assert lines(text)[0]["event"] == "it failed: ValueError"


# --- canaries through every door --------------------------------------------------------------------------

CANARY = "canary" + uuid4().hex


class Falls:
    """An intake that quotes what it could not take."""

    async def start(self):
        pass

    stop = start

    async def accept(self, submission):
        raise ValueError(f"{submission.event_id} {submission.body!r} {submission.token}")


def django(environ, start):
    try:
        return WSGIHandler()(environ, start)
    finally:
        connections.close_all()


def doors(intake):
    receiving = receiver.Receiver(intake, most_bytes=10_000, seconds=0.2)
    return Doors(
        intake=intake,
        receiving=receiving,
        checking=health.Health(),
        measuring=metrics.Metrics(receiving.answered, ask=lambda: None, token=CANARY),
        django=Bridge(django, threads=1, most_bytes=10_000, seconds=0.2),
    )


SECRETS = [
    ("authorization", f"Bearer {CANARY}"),
    ("cl-x-token", CANARY),
    ("cookie", f"sessionid={CANARY}; csrftoken={CANARY}"),
    ("x-secret", CANARY),
    ("host", "localhost"),
    ("content-type", "application/json"),
    ("referer", f"https://x.example.com/?{CANARY}"),
    ("user-agent", CANARY),
]
BODY = json.dumps(
    {"email": f"{CANARY}@x.example.com", "password": CANARY, "name": CANARY, CANARY: CANARY}
).encode()


async def knock(app, path, *, method="POST", headers=SECRETS, body=BODY):
    lengthy = [*headers, ("content-length", str(len(body)))]
    return await asgi.call(
        app, asgi.parts(body), method=method, path=path, headers=lengthy, query=f"token={CANARY}".encode()
    )


def test_no_door_tells_a_secret(database, written, monkeypatch):
    text = written(level="DEBUG")
    alice = person("alice")
    account = operations.create_account(actor=alice.user, name="Orders")
    owned = f"/api/v1/accounts/{account.account.pk}"
    known = [(name, value) for name, value in SECRETS if name != "authorization"]
    known.append(("authorization", f"Bearer {alice.token}"))
    ingest = [("cl-x-token", account.app_secret_token), ("cl-x-event-id", CANARY), *SECRETS[4:6]]
    destination = json.dumps(
        {
            "url": f"https://u:{CANARY}@hooks.example.com/{CANARY}?{CANARY}",
            "http_method": "POST",
            "headers": {"X-Secret": CANARY},
        }
    ).encode()

    def quoting(view, *_args, **_kwargs):
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s::int", [view.request.META["QUERY_STRING"]])

    def falling(view, *_args, **_kwargs):
        raise ValueError(f"{view.request.META} {view.request.body!r}")

    async def scenario():
        app = doors(Falls())
        replies = []
        for path in (
            "/server/incoming_data", "/api/v1/auth/login/", "/api/v1/auth/register/", "/api/v1/accounts/",
            f"/{CANARY}", f"/api/v1/accounts/{CANARY}/", "/api/schema/", "/metrics", "/health/ready",
        ):  # fmt: skip
            replies += [await knock(app, path, method=method) for method in ("GET", "POST")]
        replies += [
            await knock(app, "/server/incoming_data", headers=ingest),
            await knock(app, "/api/v1/accounts/", headers=known),
            await knock(app, f"{owned}/destinations/", headers=known, body=destination),
            await knock(app, f"{owned}/destinations/", headers=known, body=b"{" + CANARY.encode()),
            await knock(app, "/api/v1/accounts/", headers=[("host", CANARY), *known]),
        ]
        for fall in (quoting, falling):
            monkeypatch.setattr(Endpoint, "initial", fall)
            replies += [
                await knock(app, "/api/v1/auth/login/"),
                await knock(app, f"{owned}/", method="GET", headers=known),
            ]
        monkeypatch.undo()
        replies.append(await broken(app))
        return replies

    async def broken(_app):
        def wsgi(environ, _start):
            raise ValueError(str(environ))

        return await knock(Bridge(wsgi, threads=1, most_bytes=10_000), f"/{CANARY}")

    replies = asyncio.run(scenario())
    statuses = {reply.status for reply in replies}
    assert {401, 404, 405, 500, 503} <= statuses
    said = text.getvalue()
    found = [line for line in lines(text) if CANARY in json.dumps(line)]
    assert found == []
    for secret in (CANARY, PASSWORD, alice.token, account.app_secret_token, alice.user.email):
        assert secret not in said
    exceptions = [line for line in lines(text) if "exception" in line]
    assert len(exceptions) >= 4  # it did fail
    assert said.count("api.requests") > 20


def test_the_metrics_tell_no_secret(database):
    app = receiver.Receiver(Intake(), most_bytes=10_000, seconds=0.2)
    for path in ("/server/incoming_data",):
        asyncio.run(knock(app, path))
    reply = asyncio.run(
        asgi.call(
            metrics.Metrics(app.answered, ask=lambda: None, token="0123456789abcdef"),
            method="GET",
            path="/metrics",
            headers=[("authorization", "Bearer 0123456789abcdef"), ("x", CANARY)],
        )
    )
    assert reply.status == 200
    assert CANARY not in reply.body.decode()
