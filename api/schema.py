"""What does the OpenAPI document say beyond what the code shows by itself?

Every operation lists its errors (RFC 9457, from `api.problems`), writes have their envelope, and the
receiver, which is no Django view, is added as it answers.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated

from api import problems, receiver
from api.problems import Problem

RECEIVING = """
A 2xx means that the event and its deliveries are on disk. Checked in this order: method, length, size,
content type and encoding, the token's shape, event id, JSON; then the token itself, whether the id is known
(which spends nothing), the limit. A trailing slash and a query are passed over.
"""

type Json = dict[str, Any]

PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457, with the members that all answers of this API share.",
    "required": ["type", "title", "status", "detail", "instance", "success", "message", "errors"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "The kind of error, for programs: it stays.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For people."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "success": {"type": "boolean", "const": False},
        "message": {"type": "string"},
        "errors": {
            "type": "object",
            "description": "What is wrong, by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
PROBLEM_REFERENCE = {"$ref": "#/components/schemas/Problem"}


def envelope(name: str, data: serializers.BaseSerializer[Any] | None) -> serializers.Serializer[Any]:
    """How a write is answered."""
    content = data or serializers.JSONField(allow_null=True, help_text="Always null.")
    fields: dict[str, serializers.Field[Any, Any, Any, Any]] = {
        "success": serializers.BooleanField(help_text="Always true."),
        "message": serializers.CharField(help_text='Always "Data Received".'),
        "data": content,
    }
    return inline_serializer(name, fields=fields)


NOTHING = envelope("Nothing", None)


class Schema(AutoSchema):
    """Adds the errors that an operation may answer. A view's `problems` has those of its own, by action."""

    global_params: list[Any] = []

    def get_tags(self) -> list[str]:
        return [getattr(self.view, "tag", "") or "api"]

    def _get_response_bodies(self, direction: Any = "response") -> Json:
        bodies: Json = super()._get_response_bodies(direction)
        by_status: dict[int, list[Problem]] = {}
        for problem in self._problems():
            by_status.setdefault(problem.status, []).append(problem)
        for status, found in sorted(by_status.items()):
            bodies[str(status)] = self._problem_body(found)
        return bodies

    def _problems(self) -> list[Problem]:
        found = [problems.UNAVAILABLE, problems.MALFORMED]
        if self._has_body():
            found += [problems.INVALID, problems.TOO_LARGE, problems.TYPE, problems.NO_LENGTH]
        elif self._is_list_view():
            found += [problems.INVALID]
        if IsAuthenticated in self.view.permission_classes:
            found += [problems.UNAUTHENTICATED]
        if "{" in self.path:
            found += [problems.NOT_FOUND, problems.FORBIDDEN]
        found += getattr(self.view, "problems", {}).get(getattr(self.view, "action", None), ())
        return list(dict.fromkeys(found))

    def _has_body(self) -> bool:
        return self.method in {"POST", "PUT", "PATCH"}

    def _problem_body(self, found: list[Problem]) -> Json:
        path = self.path.replace("{", "").replace("}", "")
        examples = {
            problem.slug: {
                "summary": problem.title,
                "value": problem.document(
                    instance=path, errors={"name": ["..."]} if problem is problems.INVALID else None
                ),
            }
            for problem in found
        }
        content = {problems.CONTENT_TYPE: {"schema": PROBLEM_REFERENCE, "examples": examples}}
        return {"description": "; ".join(problem.title for problem in found), "content": content}


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "api.authentication.Bearer"
    name = "bearer"

    def get_security_definition(self, _auto_schema: Any) -> Json:
        return {"type": "http", "scheme": "bearer", "description": "The token that log in answers."}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "api.authentication.Session"
    name = "session"

    def get_security_definition(self, _auto_schema: Any) -> Json:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "For browsers; writes need the header `X-CSRFToken` with the cookie `csrftoken`.",
        }


# --- the receiver ------------------------------------------------------------------------------------------


def add_receiver(result: Json, **_: Any) -> Json:
    """A postprocessing hook: the path that Django does not know."""
    result["paths"] = {"/server/incoming_data": {"post": _receive()}, **result["paths"]}
    components = result.setdefault("components", {})
    components.setdefault("securitySchemes", {})["ingest"] = {
        "type": "apiKey",
        "in": "header",
        "name": "CL-X-TOKEN",
        "description": "The account's `app_secret_token`.",
    }
    components.setdefault("schemas", {}).update(_receiver_schemas())
    return result


def _receive() -> Json:
    return {
        "operationId": "receive_event",
        "tags": ["events"],
        "summary": "Send an event",
        "description": RECEIVING,
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
                "application/json": {"schema": {"type": "object"}, "example": {"order": 1042, "paid": True}}
            },
        },
        "responses": {
            "202": _accepted("Accepted: it is on disk", duplicate=False),
            "200": _accepted("Known already: the same id with the same bytes", duplicate=True),
            **{str(status): _refused(answers) for status, answers in _refusals().items()},
        },
    }


def _accepted(description: str, *, duplicate: bool) -> Json:
    example = {
        "success": True,
        "message": "Data Received",
        "event": {
            "id": "019a9f3e-7c1a-7d3e-9b1f-2f6f3f0c9a51",
            "event_id": "order-1042",
            "received_timestamp": "2026-11-20T12:00:00.000000Z",
            "deliveries": 2,
            "duplicate": duplicate,
        },
    }
    schema = {"$ref": "#/components/schemas/Received"}
    answer: Json = {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": example}},
    }
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


def _refused(answers: Mapping[str, receiver.Answer]) -> Json:
    status = next(iter(answers.values())).status
    examples = {name: {"value": _loads(answer)} for name, answer in answers.items()}
    schema = {"$ref": "#/components/schemas/Refused"}
    refused: Json = {
        "description": _WORDS[status],
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }
    if status in {429, 503}:
        refused["headers"] = {"Retry-After": _header("integer", "Seconds to wait.")}
    if status == 429:
        refused["headers"] |= _limit_headers()
    if status == 405:
        refused["headers"] = {"Allow": _header("string", "POST")}
    return refused


def _limit_headers() -> Json:
    return {
        "RateLimit-Policy": _header("string", 'The limit: `"account";q=5;w=1` is 5 in each second.'),
        "RateLimit": _header(
            "string", "What is left (r) and, when nothing is, the seconds until there is (t)."
        ),
    }


def _header(kind: str, description: str) -> Json:
    return {"description": description, "schema": {"type": kind}}


def _loads(answer: receiver.Answer) -> Any:
    return orjson.loads(answer.body)


def _receiver_schemas() -> Json:
    text, flag = {"type": "string"}, {"type": "boolean"}
    event = {
        "type": "object",
        "required": ["id", "event_id", "received_timestamp", "deliveries", "duplicate"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "event_id": text,
            "received_timestamp": {"type": "string", "format": "date-time"},
            "deliveries": {"type": "integer", "description": "To how many destinations it goes."},
            "duplicate": flag,
        },
    }
    return {
        "Problem": PROBLEM,
        "Received": {
            "type": "object",
            "required": ["success", "message", "event"],
            "properties": {"success": flag, "message": text, "event": event},
        },
        "Refused": {
            "type": "object",
            "required": ["success", "message"],
            "properties": {
                "success": flag,
                "message": text,
                "errors": {"type": "object", "additionalProperties": {"type": "array", "items": text}},
            },
        },
    }
