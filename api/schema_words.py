"""What do fields and parameters mean, and which values may they have?

By name: a name means the same wherever it stands. The bounds are those that the domain keeps to
(`accounts.validators`), which a serializer leaves to it; a description of the serializer's own goes first.
"""

from collections.abc import Iterator
from typing import Any

from accounts import validators
from accounts.operations.change import LONGEST_OVERLAP_SECONDS
from accounts.roles import NAMES
from guard import headers as guard_headers

type Json = dict[str, Any]

NO_NUL = r"^[^\u0000]*$"  # PostgreSQL keeps none, so nothing is found by one
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"

# Answers and requests: only what is true of both.
WORDS: dict[str, Json] = {
    "id": {"description": "Ours; it stays."},
    "created_at": {"description": "When it was made."},
    "recorded_at": {"description": "When it was recorded, by the database's clock."},
    "updated_at": {"description": "When it was changed last."},
    "created_by": {"description": "The user who made it."},
    "updated_by": {"description": "The user who changed it last."},
    "email": {"description": "In lower case.", "format": "email"},
    "password": {"description": "Nobody sees it again.", "format": "password"},
    "role": {"description": "The role's name."},
    "role_id": {"description": "The role's id: 1 is Admin, 2 is Normal user."},
    "session": {"description": "true: for browsers, a cookie instead of a token."},
    "token": {"description": "For `Authorization: Bearer ...`; null for a session."},
    "results": {"description": "At most `page_size` of them."},
    "account_id": {"description": "The account's id."},
    "destination_id": {"description": "The destination's id."},
    "status": {"description": "`pending`: there are more attempts to come."},
    "attempts": {"description": "How many there were."},
    "response_status": {"description": "The HTTP status of the last answer; null when there was none."},
    "received_timestamp": {"description": "When the event was admitted."},
    "next_attempt_timestamp": {"description": "When it is tried again; null when it isn't."},
    "number": {"description": "1 for the first."},
    "finished_timestamp": {"description": "When its end was recorded."},
    "detail": {"description": "More about a failure, in words."},
    "attempt_list": {"description": "The first one first; those of its last 1,000 events."},
    "user": {"description": "Who logged in."},
    "may_create_accounts": {"description": "Whether they registered, or are Admin of some account."},
    "token_hint": {"description": "The beginning of the present secret token."},
    "token_created_at": {"description": "When the present secret token was made."},
    "data": {"description": "What it is now."},
}

# What a request may say.
BOUNDS: dict[str, Json] = {
    "email": {"maxLength": validators.LONGEST_EMAIL},
    "password": {"minLength": 8, "maxLength": validators.LONGEST_PASSWORD},
    "current_password": {"minLength": 1, "maxLength": 2000},
    "new_password": {"minLength": 8, "maxLength": validators.LONGEST_PASSWORD},
    "name": {
        "maxLength": validators.LONGEST_NAME,
        "pattern": rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$",
    },
    "website": {
        "maxLength": validators.LONGEST_URL,
        "pattern": rf"^$|{validators.WEBSITE}",
    },
    "rate_limit_per_second": {"minimum": 1, "maximum": validators.HIGHEST_RATE_LIMIT, "default": 5},
    "url": {
        "format": "uri",
        "maxLength": validators.LONGEST_URL,
        "pattern": "^[hH][tT][tT][pP][sS]?://[!-~]+$",
    },
    "headers": {
        "maxProperties": guard_headers.MOST,
        "propertyNames": {"pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
        "additionalProperties": {
            "type": "string",
            "pattern": r"^[\u0021-\u007e]([\t\u0020-\u007e]*[\u0021-\u007e])?$",
        },
    },
    "active": {"default": True},
    "timeout_seconds": dict(zip(("minimum", "maximum"), validators.TIMEOUT_SECONDS, strict=True))
    | {"default": 15},
    "retry_schedule_seconds": {
        "maxItems": validators.MOST_RETRIES,
        "items": {"type": "integer"}
        | dict(zip(("minimum", "maximum"), validators.RETRY_SECONDS, strict=True)),
    },
    "overlap_seconds": {"minimum": 0, "maximum": LONGEST_OVERLAP_SECONDS},
    "role_id": {"minimum": min(NAMES), "maximum": max(NAMES)},
}
# One of the two that name a role.
FEWEST = {"MemberRequest": 1, "NewMemberRequest": 2}
# Secrets that only the answer to a creation shows; a thing may be sent back as that answer had it.
SHOWN_ONCE = {("Account", "app_secret_token"), ("Destination", "signing_secret")}
# Where a name has other bounds: any password may be tried.
UNBOUNDED = {("CredentialsRequest", "email"), ("CredentialsRequest", "password")}

PARAMETERS: dict[str, str] = {
    "id": "Only this one.",
    "created_by": "Made by this user.",
    "updated_by": "Changed last by this user.",
    "name": "Exactly this name.",
    "website": "Exactly this address.",
    "url": "Exactly this URL.",
    "http_method": "With this method.",
    "active": "Active or not.",
    "paused": "Paused or not.",
    "email": "Exactly this e-mail address.",
    "role": "With this role.",
    "role_id": "With the role of this id.",
    "destination_id": "To this destination.",
    "status": "With this status.",
}
# An empty filter is none; where in a list to begin, and how, is never empty.
PLACES = {"cursor", "page_size", "ordering", "after"}
QUERY: dict[str, Json] = {
    "active": {"type": "boolean"},
    "paused": {"type": "boolean"},
    "search": {"type": "string", "maxLength": 200},
    "cursor": {"type": "string", "minLength": 1},
    "http_method": {"$ref": "#/components/schemas/HttpMethod"},
    "role": {"$ref": "#/components/schemas/RoleName"},
    "status": {"$ref": "#/components/schemas/LogStatus"},
}
MOMENTS = {
    "created_at": "made",
    "updated_at": "changed last",
    "received_timestamp": "admitted",
    "processed_timestamp": "tried last",
}
_IDS = {
    "account_id": ("The account's id.", "019a9f3e-1111-7000-8000-5d1c0ffee001"),
    "destination_id": ("The destination's id.", "019a9f3e-2222-7000-8000-5d1c0ffee002"),
    "member_id": ("The membership's id.", "019a9f3e-3333-7000-8000-5d1c0ffee003"),
    "log_id": ("The delivery's id.", "019a9f3e-4444-7000-8000-5d1c0ffee004"),
}


def ids() -> dict[str, str]:
    """The ids of the document's examples, by the names in paths."""
    return {name: example for name, (_, example) in _IDS.items()}


def add(document: Json) -> None:
    for component, schema in document["components"]["schemas"].items():
        _describe(component, schema)
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                _describe_parameter(parameter)
            if _names(operation.get("requestBody", {})) & FEWEST.keys():
                operation["requestBody"]["required"] = True


def _names(body: Json) -> set[str]:
    """Of the schemas of a request's body."""
    schemas = (content["schema"] for content in body.get("content", {}).values())
    return {schema.get("$ref", "").rpartition("/")[2] for schema in schemas}


def _describe(component: str, schema: Json) -> None:
    properties: Json = schema.get("properties", {})
    if component in FEWEST:
        schema["minProperties"] = FEWEST[component]
    for name in [name for name in properties if (component, name) in SHOWN_ONCE]:
        del properties[name]
    for name, form in properties.items():
        words = WORDS.get(name, {})
        properties[name] = {**form, **words, **_own(form, "description")}
        if component.endswith("Request") and (component, name) not in UNBOUNDED:
            properties[name] |= _bounds(component, name)
    if {"success", "message", "data"} == properties.keys():
        properties["success"]["const"] = True
        properties["message"]["const"] = "Data Received"
        if component == "Nothing":
            properties["data"] = {"type": "null", "description": "Always null."}


def _own(form: Json, name: str) -> Json:
    return {name: form[name]} if form.get(name) else {}


def _bounds(component: str, name: str) -> Json:
    """A PATCH leaves alone what it leaves out: it has no defaults."""
    bounds = BOUNDS.get(name, {})
    return {key: value for key, value in bounds.items() if key != "default" or "Patched" not in component}


def _describe_parameter(parameter: Json) -> None:
    name = parameter["name"]
    if parameter["in"] == "path":
        description, example = _IDS[name]
        parameter |= {"description": description, "example": example}
        parameter["schema"] = {"type": "string", "format": "uuid"}
    elif parameter["in"] == "query":
        parameter["description"] = parameter.get("description") or next(_words_of_parameter(name))
        schema: Json = QUERY.get(name) or parameter["schema"]
        is_free = schema.get("type") == "string" and not schema.keys() & {"format", "enum"}
        parameter["schema"] = {**schema, "pattern": NO_NUL} if is_free else schema
        if name not in PLACES:
            parameter["allowEmptyValue"] = True
        if name == "ordering":
            parameter["schema"]["x-enum-varnames"] = [_spelled(one) for one in parameter["schema"]["enum"]]


def _spelled(ordering: str) -> str:
    """What a generated client may call it."""
    name = ordering.removeprefix("-").upper()
    return f"{name}_DESCENDING" if ordering.startswith("-") else name


def _words_of_parameter(name: str) -> Iterator[str]:
    if name in PARAMETERS:
        yield PARAMETERS[name]
    for moment, words in MOMENTS.items():
        if name == moment:
            yield f"Exactly then {words}."
        elif name == f"{moment}_after":
            yield f"Then or later {words}."
        elif name == f"{moment}_before":
            yield f"Then or earlier {words}."
    yield ""
