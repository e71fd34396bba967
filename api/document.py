"""What does the OpenAPI document say of itself? Plain, so that the settings can read it."""

from typing import Any

DESCRIPTION = """
Data Pusher receives JSON events for an account and delivers each of them, at least once, to every
destination of that account.

1. Register and log in (`/api/v1/auth/`); send the token as `Authorization: Bearer ...`.
2. Create an account: its `app_secret_token` is shown once.
3. Add a destination: its `signing_secret` is shown once (deliveries are signed by Standard Webhooks 1.0).
4. Send events to `POST /server/incoming_data` with `CL-X-TOKEN` and an id of your own in `CL-X-EVENT-ID`.
   A 2xx means that the event is on disk. Repeat it until you have one: the same id with the same bytes is
   one event.
5. Read the logs of the account.

Errors are `application/problem+json` (RFC 9457) with `errors`, field by field; timestamps are UTC with
microseconds; unknown fields and unknown parameters are refused.
"""

DOCUMENT: dict[str, Any] = {
    "TITLE": "Data Pusher",
    "VERSION": "1",
    "DESCRIPTION": DESCRIPTION,
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "HttpMethod": "accounts.validators.HTTP_METHODS",
        "LogStatus": "api.views.logs.STATUSES",
        "RoleName": "api.views.members.ROLES",
    },
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "api.schema.complete",
    ],
    "TAGS": [
        {"name": "events", "description": "Send events, and follow what happened."},
        {"name": "auth", "description": "Register, log in and out."},
        {"name": "accounts", "description": "What events are sent to."},
        {"name": "destinations", "description": "Where an account's events go."},
        {"name": "members", "description": "Who belongs to an account."},
        {"name": "logs", "description": "What became of each delivery."},
        {"name": "operations", "description": "For those who run it."},
    ],
}
