"""How are the doors described that Django does not know: the receiver, the health checks, the metrics?

The receiver's answers are its own (`api.receiver`), so that the document shows what is really sent.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from api import receiver

RECEIVING = """
A 2xx means that the event and its deliveries are on disk. Checked in this order: method, length, size,
content type and encoding, the token's shape, event id, JSON; then the token itself, whether the id is known
(which spends nothing), the limit. A trailing slash and a query are passed over.
"""

type Json = dict[str, Any]

_METRIC = """# HELP data_pusher_outbox_deliveries Deliveries that wait, by state.
# TYPE data_pusher_outbox_deliveries gauge
data_pusher_outbox_deliveries{state="due"} 3.0
"""
_EVENT = {
    "id": "019a9f3e-7c1a-7d3e-9b1f-2f6f3f0c9a51",
    "event_id": "order-1042",
    "received_timestamp": "2026-11-20T12:00:00.000000Z",
    "deliveries": 2,
}
_WORDS = {
    400: "The event id or the JSON is not valid",
    401: "The token is missing, malformed, unknown or expired",
    405: "Only POST",
    408: "The body did not arrive in time",
    409: "The same id came before with other bytes, or its content was erased",
    411: "No Content-Length",
    413: "Too large",
    415: "Another content type or encoding",
    429: "Over the account's limit; this was not stored and spent nothing",
    503: "Try again: the database is away, the account is busy, or a restore waits to be acknowledged",
}


def add(document: Json) -> None:
    """The doors' paths, what they need to be let in, and what they answer with."""
    document["paths"] = {
        "/server/incoming_data": {"post": _receive()},
        **document["paths"],
        "/health/live": {"get": _live()},
        "/health/ready": {"get": _ready()},
        "/metrics": {"get": _metrics()},
    }
    components = document.setdefault("components", {})
    components.setdefault("securitySchemes", {}).update(_security())
    components.setdefault("schemas", {}).update(_schemas())


def header(kind: str, description: str, example: Any = None) -> Json:
    described: Json = {"description": description, "schema": {"type": kind}}
    return described if example is None else {**described, "example": example}


def retry_after() -> Json:
    return {"Retry-After": header("integer", "Seconds to wait.", 1)}


# --- the receiver ------------------------------------------------------------------------------------------


def _receive() -> Json:
    return {
        "operationId": "receive_event",
        "tags": ["events"],
        "summary": "Send an event",
        "description": RECEIVING.strip(),
        "security": [{"ingest": []}],
        "parameters": [
            {
                "name": "CL-X-EVENT-ID",
                "in": "header",
                "required": True,
                "description": "Your own id, unique for each event; the same when you repeat one.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]{1,128}$"},
                "example": "order-1042",
            }
        ],
        "requestBody": {
            "required": True,
            "description": "A JSON object, kept and delivered byte for byte.",
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Payload"},
                    "example": {"order": 1042, "paid": True},
                }
            },
        },
        "responses": {
            "202": _accepted("Accepted: it is on disk", duplicate=False),
            "200": _accepted("Known already: the same id with the same bytes", duplicate=True),
            **{str(status): _refused(answers) for status, answers in _refusals().items()},
        },
    }


def _accepted(description: str, *, duplicate: bool) -> Json:
    example = {"success": True, "message": "Data Received", "event": {**_EVENT, "duplicate": duplicate}}
    answer = _answer(description, "Received", {"example": example})
    if not duplicate:
        answer["headers"] = _limit_headers()
    return answer


def _refusals() -> dict[int, dict[str, receiver.Answer]]:
    return {
        400: {
            "event-id": receiver.EVENT_ID,
            "not-json": receiver.NOT_JSON,
            "no-object": receiver.NO_OBJECT,
            "length": receiver.LENGTH_DIFFERS,
        },
        401: {"unauthenticated": receiver.UNAUTHENTICATED},
        405: {"method": receiver.METHOD},
        408: {"too-slow": receiver.TOO_SLOW},
        409: {"conflict": receiver.CONFLICT},
        411: {"no-length": receiver.NO_LENGTH},
        413: {"too-large": receiver.too_large(1 << 20)},
        415: {"type": receiver.TYPE, "encoding": receiver.ENCODING},
        429: {"too-many": receiver.too_many(5, 1)},
        503: {"unavailable": receiver.UNAVAILABLE},
    }


def _refused(answers: Mapping[str, receiver.Answer]) -> Json:
    status = next(iter(answers.values())).status
    examples = {name: {"value": orjson.loads(answer.body)} for name, answer in answers.items()}
    refused = _answer(_WORDS[status], "Refused", {"examples": examples})
    match status:
        case 401:
            refused["headers"] = {"WWW-Authenticate": header("string", "What is needed.", "CL-X-TOKEN")}
        case 405:
            refused["headers"] = {"Allow": header("string", "What is allowed.", "POST")}
        case 429:
            refused["headers"] = retry_after() | _limit_headers()
        case 503:
            refused["headers"] = retry_after()
    return refused


def _limit_headers() -> Json:
    return {
        "RateLimit-Policy": header("string", "The limit: here 5 in each second.", '"account";q=5;w=1'),
        "RateLimit": header(
            "string",
            "What is left (r) and, when nothing is, the seconds until there is (t).",
            '"account";r=4',
        ),
    }


# --- for operators -----------------------------------------------------------------------------------------


def _live() -> Json:
    return {
        "operationId": "read_liveness",
        "tags": ["operations"],
        "summary": "Is the process alive?",
        "description": "Answered without the database.",
        "security": [{}],
        "responses": {"200": _answer("It is", "Health", {"example": {"status": "ok"}})},
    }


def _ready() -> Json:
    away = {"status": "unavailable", "reasons": ["the database does not answer (OperationalError)"]}
    unready = _answer("Not now, and why", "Health", {"example": away}) | {"headers": retry_after()}
    return {
        "operationId": "read_readiness",
        "tags": ["operations"],
        "summary": "May it be sent work?",
        "description": "Asks the database (at most once a second): does it answer, can it be written to, are "
        "its migrations and settings as this program needs them, was a restore acknowledged?",
        "security": [{}],
        "responses": {
            "200": _answer("It may", "Health", {"example": {"status": "ok"}}),
            "503": unready,
        },
    }


def _metrics() -> Json:
    text = {"schema": {"type": "string"}, "example": _METRIC}
    return {
        "operationId": "read_metrics",
        "tags": ["operations"],
        "summary": "Numbers for Prometheus",
        "description": (
            "Where `METRICS_TOKEN` is set: with it as the bearer, else 401. Where it isn't: straight from "
            "the machine itself, else 404."
        ),
        "security": [{}, {"metrics": []}],
        "responses": {
            "200": {"description": "Prometheus' text format", "content": {"text/plain": text}},
            "401": {"$ref": "#/components/responses/Unauthenticated"},
            "404": {"$ref": "#/components/responses/NotFound"},
        },
    }


# --- what they share ---------------------------------------------------------------------------------------


def _answer(description: str, schema: str, examples: Json) -> Json:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, **examples}
    return {"description": description, "content": {"application/json": content}}


def _security() -> Json:
    return {
        "ingest": {
            "type": "apiKey",
            "in": "header",
            "name": "CL-X-TOKEN",
            "description": "The account's `app_secret_token`.",
        },
        "metrics": {"type": "http", "scheme": "bearer", "description": "The setting `METRICS_TOKEN`."},
    }


def _schemas() -> Json:
    return {"Payload": _payload(), "Received": _received(), "Refused": _refused_schema(), "Health": _health()}


def _payload() -> Json:
    return {"type": "object", "description": "Any JSON object.", "additionalProperties": True}


def _received() -> Json:
    event = _object(
        "What became of it.",
        id={"type": "string", "format": "uuid", "description": "Ours."},
        event_id={"type": "string", "description": "Yours."},
        received_timestamp={
            "type": "string",
            "format": "date-time",
            "description": "When it was admitted, by the database's clock.",
        },
        deliveries={"type": "integer", "description": "To how many destinations it goes."},
        duplicate={"type": "boolean", "description": "Whether it was known already."},
    )
    return _object("An event that is on disk.", **_outcome(success=True), event=event)


def _refused_schema() -> Json:
    errors = {
        "type": "object",
        "description": "What is wrong, by header or field.",
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    }
    refused = _object("An event that was not stored.", **_outcome(success=False))
    return {**refused, "properties": {**refused["properties"], "errors": errors}}


def _outcome(*, success: bool) -> Json:
    return {
        "success": {"type": "boolean", "const": success, "description": f"Always {str(success).lower()}."},
        "message": {"type": "string", "description": "In two words: see the examples."},
    }


def _health() -> Json:
    status = {"type": "string", "enum": ["ok", "unavailable"], "description": "In a word."}
    reasons = {"type": "array", "items": {"type": "string"}, "description": "Why not, for the operator."}
    health = _object("How it is.", status=status)
    return {**health, "properties": {**health["properties"], "reasons": reasons}}


def _object(description: str, **properties: Json) -> Json:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
    }
