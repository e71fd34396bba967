"""What can be typed to try the product by hand? Commands that work as they are printed."""

import json
import shlex


def post(url: str, token: str, event_id: str) -> str:
    body = json.dumps({"hello": "world"})
    headers = {"CL-X-TOKEN": token, "CL-X-EVENT-ID": event_id, "Content-Type": "application/json"}
    return _curl(f"{url}/server/incoming_data", headers) + f" -d {shlex.quote(body)}"


def read_log(url: str, bearer: str, account_id: str, event_id: str) -> str:
    return _curl(
        f"{url}/api/v1/accounts/{account_id}/logs/?event_id={event_id}", {"Authorization": f"Bearer {bearer}"}
    )


def _curl(url: str, headers: dict[str, str]) -> str:
    given = (f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())
    return " ".join(("curl", "-i", shlex.quote(url), *given))
