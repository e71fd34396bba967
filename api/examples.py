"""What does a request look like, and its answer? One example of each for every operation of the document.

Tests compare the examples with the document's own schemas, and the operations with these tables.
"""

from typing import Any

from api import schema_words

type Json = dict[str, Any]

_ID = schema_words.ids()
_ALICE = "019a9f3e-0000-7000-8000-5d1c0ffee0a1"
_BOB = "019a9f3e-0000-7000-8000-5d1c0ffee0b0"
_EARLIER, _LATER = "2026-11-20T12:00:00.000000Z", "2026-11-20T12:30:00.250000Z"
_KEPT: Json = {"created_at": _EARLIER, "updated_at": _LATER, "created_by": _ALICE, "updated_by": _ALICE}
_API = "https://pusher.example.com/api/v1"
_TOKEN = "clx_7Qm2xKf09Zpa_" + "k3vJ8wq1ZrT" * 4 + "00000"
_SECRET = "whsec_" + "C2FtcGxlIHNlY3JldCBmb3IgdGhlIGRvY3M="
_BEARER = "cla_9Lk3jH5gFd1s_" + "Y7u2mN4bXc9" * 4 + "00000"
_INVITATION = "cli_0aB1cD2eF3gH_" + "Pq5Rs7Tu9Vw" * 4 + "00000"

USER: Json = {"id": _ALICE, "email": "alice@example.com", **_KEPT}
ACCOUNT: Json = {
    "id": _ID["account_id"],
    "name": "Orders",
    "website": "https://orders.example.com",
    "rate_limit_per_second": 5,
    "token_hint": "clx_7Qm2xKf09Zpa_...",
    "token_created_at": _EARLIER,
    **_KEPT,
}
DESTINATION: Json = {
    "id": _ID["destination_id"],
    "url": "https://hooks.example.com/in",
    "http_method": "POST",
    "headers": {"Accept": "application/json", "Authorization": "********"},
    "active": True,
    "paused": False,
    "timeout_seconds": 15,
    "retry_schedule_seconds": [5, 30, 120, 600],
    **_KEPT,
}
MEMBER: Json = {
    "id": _ID["member_id"],
    "email": "bob@example.com",
    "role": "Normal user",
    "role_id": 2,
    **_KEPT,
}
LOG: Json = {
    "id": _ID["log_id"],
    "event_id": "order-1042",
    "account_id": _ID["account_id"],
    "destination_id": _ID["destination_id"],
    "received_timestamp": _EARLIER,
    "processed_timestamp": "2026-11-20T12:00:00.131072Z",
    "status": "success",
    "attempts": 1,
    "reason": "delivered",
    "response_status": 204,
    "next_attempt_timestamp": None,
    "received_data": {"order": 1042, "paid": True},
}
_LOG_ROW: Json = {name: value for name, value in LOG.items() if name != "received_data"}
ATTEMPT: Json = {
    "number": 1,
    "finished_timestamp": "2026-11-20T12:00:00.131072Z",
    "reason": "delivered",
    "response_status": 204,
    "duration_us": 41_250,
    "address": "203.0.113.7",
    "detail": "",
    "next_attempt_timestamp": None,
}
SAMPLE: Json = {
    "id": _ID["log_id"],
    "event_id": "test-019a9f3e-5555-7000-8000-5d1c0ffee005",
    "destination_id": _ID["destination_id"],
    "received_timestamp": _LATER,
}
EVENT: Json = {
    "position": 1042,
    "block": 17,
    "type": "delivery.succeeded",
    "stream_id": _ID["log_id"],
    "version": 1,
    "recorded_at": "2026-11-20T12:00:00.131072Z",
    "payload_digest": None,
    "data": {
        "attempt": 1,
        "event": "019a9f3e-5555-7000-8000-5d1c0ffee005",
        "destination": _ID["destination_id"],
        "reason": "delivered",
        "status": 204,
        "duration_us": 41_250,
        "address": "203.0.113.7",
        "detail": "",
    },
}


def _written(data: Any) -> Json:
    return {"success": True, "message": "Data Received", "data": data}


def _page(path: str, *results: Json) -> Json:
    return {"next": f"{_API}{path}?cursor=WyItY3JlYXRlZF9hdCJd", "previous": None, "results": list(results)}


_IN_ACCOUNT = f"/accounts/{_ID['account_id']}"
_ADMIN: Json = {**MEMBER, "role": "Admin", "role_id": 1}
_NEW_SECRET: Json = {"signing_secret": _SECRET}

REQUESTS: dict[str, Json] = {
    "register": {"email": "alice@example.com", "password": "correct horse battery staple"},
    "log_in": {"email": "alice@example.com", "password": "correct horse battery staple"},
    "change_password": {
        "current_password": "correct horse battery staple",
        "new_password": "another horse, another staple",
    },
    "accept_invitation": {"token": _INVITATION, "password": "correct horse battery staple"},
    "create_account": {"name": "Orders", "website": "https://orders.example.com"},
    "replace_account": {"name": "Orders and returns", "website": "https://orders.example.com"},
    "update_account": {"rate_limit_per_second": 50},
    "rotate_token": {"overlap_seconds": 3600},
    "create_destination": {
        "url": "https://hooks.example.com/in",
        "http_method": "POST",
        "headers": {"Accept": "application/json", "Authorization": "Bearer of-the-receiver"},
    },
    "replace_destination": {
        "url": "https://hooks.example.com/in",
        "http_method": "PUT",
        "headers": {"Authorization": "********"},
        "timeout_seconds": 10,
    },
    "update_destination": {"retry_schedule_seconds": [5, 30, 120, 600]},
    "rotate_signing_secret": {"overlap_seconds": 86_400},
    "add_member": {"email": "bob@example.com", "role": "Normal user"},
    "replace_member": {"role": "Admin"},
    "update_member": {"role_id": 1},
}
ANSWERS: dict[str, Json] = {
    "register": _written(USER),
    "log_in": _written({"token": _BEARER, "user": USER}),
    "log_out": _written(None),
    "change_password": _written(None),
    "accept_invitation": _written({**USER, "id": _BOB, "email": "bob@example.com"}),
    "me": {**USER, "may_create_accounts": True},
    "list_accounts": _page("/accounts/", ACCOUNT),
    "create_account": _written({**ACCOUNT, "app_secret_token": _TOKEN}),
    "read_account": ACCOUNT,
    "replace_account": _written({**ACCOUNT, "name": "Orders and returns"}),
    "update_account": _written({**ACCOUNT, "rate_limit_per_second": 50}),
    "delete_account": _written(None),
    "rotate_token": _written({**ACCOUNT, "token_created_at": _LATER, "app_secret_token": _TOKEN}),
    "list_destinations": _page(f"{_IN_ACCOUNT}/destinations/", DESTINATION),
    "create_destination": _written({**DESTINATION, **_NEW_SECRET}),
    "read_destination": DESTINATION,
    "replace_destination": _written({**DESTINATION, "http_method": "PUT", "timeout_seconds": 10}),
    "update_destination": _written(DESTINATION),
    "delete_destination": _written(None),
    "pause_destination": _written({**DESTINATION, "paused": True}),
    "resume_destination": _written(DESTINATION),
    "test_destination": _written(SAMPLE),
    "rotate_signing_secret": _written({**DESTINATION, **_NEW_SECRET}),
    "list_members": _page(f"{_IN_ACCOUNT}/members/", MEMBER),
    "add_member": _written({**MEMBER, "invitation_sent": True}),
    "read_member": MEMBER,
    "replace_member": _written(_ADMIN),
    "update_member": _written(_ADMIN),
    "remove_member": _written(None),
    "list_logs": _page(f"{_IN_ACCOUNT}/logs/", LOG),
    "read_log": {**LOG, "attempt_list": [ATTEMPT]},
    "redeliver": _written({**_LOG_ROW, "status": "pending", "reason": ""}),
    "list_events": {
        "next": f"{_API}{_IN_ACCOUNT}/events/?after=1042",
        "previous": None,
        "results": [EVENT],
    },
}


def add(document: Json) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            name = operation["operationId"]
            _show(operation.get("requestBody", {}), REQUESTS.get(name))
            for status, answer in operation["responses"].items():
                if status in {"200", "201"}:
                    _show(answer, ANSWERS.get(name))


def _show(described: Json, example: Json | None) -> None:
    content = described.get("content", {}).get("application/json")
    if content is not None and example is not None:
        content["example"] = example
