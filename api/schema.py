"""What does the OpenAPI document say beyond what the code shows by itself?

Every operation lists its errors (RFC 9457, from `api.problems`) and the headers around it, writes have their
envelope; at the end the doors that Django does not know are added (`api.schema_doors`), and what fields,
parameters and examples say (`api.schema_words`, `api.examples`).
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated

from api import examples, problems, schema_doors, schema_words
from api.problems import Problem
from api.schema_doors import header, retry_after

type Json = dict[str, Any]

# Actions on what has a revision: they honour If-Match, and their answers carry the new ETag.
CONDITIONAL = frozenset(
    (
        "update",
        "partial_update",
        "destroy",
        "pause",
        "resume",
        "rotate_token",
        "rotate_signing_secret",
    )
)
TAGGED = (CONDITIONAL | {"create"}) - {"destroy"}
BELOW_ACCOUNTS = "/api/v1/accounts/"
CHALLENGE = 'Bearer realm="Data Pusher"'
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
        "title": {"type": "string", "description": "The kind of error, for people."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What happened here, or what can be done."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "success": {"type": "boolean", "const": False, "description": "Always false."},
        "message": {"type": "string", "description": "The kind of error, in two words."},
        "errors": {
            "type": "object",
            "description": "What is wrong, by field or parameter; empty where it is about none of them.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
PROBLEM_REFERENCE = {"$ref": "#/components/schemas/Problem"}
IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of what you have read: 412 when it was changed since. `*`: whatever it is.",
    "schema": {"type": "string"},
    "example": '"3"',
}
IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of what you have: 304 without a body when it is still so.",
    "schema": {"type": "string"},
    "example": '"3"',
}
IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A key of your own for this one request: sent again with the same content within 24 "
    "hours, it is answered as the first time, and done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
    "example": "2f1e7a52-6f0f-4a57-9c2d-0c2f6a1f7f10",
}


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
    """Adds errors and headers. A view's `problems` has the errors of its own, by action."""

    global_params: list[Any] = []

    def get_tags(self) -> list[str]:
        return [getattr(self.view, "tag", "") or "api"]

    def get_description(self) -> str:  # type: ignore[override] # as in drf-spectacular, unlike DRF's
        """Only what is written for readers of the document: docstrings are for those of the code."""
        return ""

    def _get_parameters(self) -> list[Json]:
        parameters: list[Json] = super()._get_parameters()
        return parameters + [dict(one) for one in self._header_parameters()]

    def _header_parameters(self) -> list[Json]:
        found = []
        if self._is_conditional():
            found.append(IF_MATCH)
        if self._is_cached():
            found.append(IF_NONE_MATCH)
        if self._is_repeatable():
            found.append(IDEMPOTENCY_KEY)
        return found

    def _is_conditional(self) -> bool:
        return self._action in CONDITIONAL

    def _is_cached(self) -> bool:
        return bool(self.method == "GET")

    def _is_repeatable(self) -> bool:
        return self.method == "POST" and self.path.startswith(BELOW_ACCOUNTS)

    @property
    def _action(self) -> str:
        return getattr(self.view, "action", None) or ""

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Json:
        """A request has no field that isn't known. An answer has all but those that may miss."""
        schema: Json = super()._map_basic_serializer(  # type: ignore[no-untyped-call] # it has no types
            serializer, direction
        )
        if direction == "request":
            return {**schema, "additionalProperties": False}
        fields = getattr(serializer, "fields", {})
        required = [name for name in schema.get("properties", ()) if not _is_optional(fields.get(name))]
        return {**schema, "required": sorted(required)} if required else schema

    # --- answers --------------------------------------------------------------------------------------------

    def _get_response_bodies(self, direction: Any = "response") -> Json:
        bodies: Json = super()._get_response_bodies(direction)
        for code, body in bodies.items():
            self._complete(code, body)
        if self._is_cached():
            bodies["304"] = {"description": "It is as you have it"}
        by_status: dict[int, list[Problem]] = {}
        for problem in self._problems():
            by_status.setdefault(problem.status, []).append(problem)
        for status, found in sorted(by_status.items()):
            bodies[str(status)] = self._problem_body(found)
        return bodies

    def _complete(self, status: str, body: Json) -> None:
        body["description"] = body["description"] or _done(self.method, status)
        headers = body.setdefault("headers", {})
        if self._is_cached() or self._action in TAGGED:
            headers["ETag"] = header("string", "For `If-Match` and `If-None-Match`.", '"3"')
        if self._is_repeatable():
            headers["Idempotency-Replayed"] = header(
                "string", "`true`: this is the answer to the first request with this key.", "true"
            )
        if not headers:
            del body["headers"]

    def _problems(self) -> list[Problem]:
        found = [problems.INVALID, problems.MALFORMED, problems.TOO_MANY]
        found += [problems.INTERNAL, problems.UNAVAILABLE]
        if self._has_body():
            found += [problems.TOO_SLOW, problems.TOO_LARGE, problems.TYPE, problems.NO_LENGTH]
        if self.method != "GET":
            found += [problems.RESTORED]
        if IsAuthenticated in self.view.permission_classes:
            found += [problems.UNAUTHENTICATED]
            if self.method != "GET":
                found += [problems.CSRF]
            if self.method != "GET" and self.path.startswith(BELOW_ACCOUNTS):
                found += [problems.FORBIDDEN]
        if "{" in self.path:
            found += [problems.NOT_FOUND]
        if self._is_conditional():
            found += [problems.STALE]
        if self._is_repeatable():
            found += [problems.ANSWER_LOST, problems.KEY_REUSED]
        found += getattr(self.view, "problems", {}).get(self._action, ())
        return list(dict.fromkeys(found))

    def _has_body(self) -> bool:
        return self.method in {"POST", "PUT", "PATCH"}

    def _problem_body(self, found: list[Problem]) -> Json:
        """Many operations share an answer: each stands in the document once."""
        name = "Or".join(_in_camel_case(problem.slug) for problem in found)
        answer = ResolvedComponent(name, ResolvedComponent.RESPONSE, schema=_answer(found), object=name)
        self.registry.register_on_missing(answer)
        return dict(answer.ref)


def _answer(found: list[Problem]) -> Json:
    body: Json = {
        "description": "; ".join(problem.title for problem in found),
        "content": {
            problems.CONTENT_TYPE: {
                "schema": PROBLEM_REFERENCE,
                "examples": {problem.slug: _example(problem) for problem in found},
            }
        },
    }
    if found[0].status in {429, 503}:
        body["headers"] = retry_after()
    if found[0].status == 401:
        body["headers"] = {"WWW-Authenticate": header("string", "What is needed.", CHALLENGE)}
    return body


def _example(problem: Problem) -> Json:
    errors = {"name": ["This field is required."]} if problem is problems.INVALID else None
    return {"summary": problem.title, "value": problem.document(instance=BELOW_ACCOUNTS, errors=errors)}


def _in_camel_case(slug: str) -> str:
    return "".join(part.capitalize() for part in slug.split("-"))


def _is_optional(field: Any) -> bool:
    return field is not None and field.read_only and field._kwargs.get("required") is False  # noqa: SLF001 (DRF keeps what was said nowhere else)


def _done(method: str, status: str) -> str:
    if status == "201":
        return "Made"
    return {"GET": "As it is now", "DELETE": "Deleted"}.get(method, "Done")


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


def complete(result: Json, **_: Any) -> Json:
    """A postprocessing hook."""
    result["components"]["schemas"]["Problem"] = PROBLEM
    schema_doors.add(result)
    schema_words.add(result)
    examples.add(result)
    return result
