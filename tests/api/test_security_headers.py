"""What are browsers told, and which scripts may call?"""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from django.test import Client

from api import health, metrics, receiver
from config.embedded import CODE
from config.environment import SettingError
from config.traffic import origins
from tests.api import asgi

STRICT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PATHS = [
    "/",
    "/api/v1/accounts/",
    "/api/v1/nothing/",
    "/nothing",
    "/api/schema/",
    "/api/docs/",
    "/api/redoc/",
]


@pytest.mark.parametrize("path", [*PATHS, "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css"])
def test_every_answer_of_django_carries_them(db, path):
    reply = Client().get(path)
    reply.close()  # a file of /static/ is open
    headers = reply.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "Strict-Transport-Security" not in headers
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", [path for path in PATHS if path not in {"/api/docs/", "/api/redoc/"}])
def test_nothing_may_be_loaded_by_what_is_no_page(db, path):
    assert Client().get(path).headers["Content-Security-Policy"] == STRICT


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs/?script=", "/api/redoc/"])
def test_the_documents_load_from_us_alone(db, path):
    policy = Client().get(path).headers["Content-Security-Policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["script-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "http" not in policy


def test_a_failure_carries_them_too(db, monkeypatch):
    from api.endpoint import Endpoint

    def fall(*_args, **_kwargs):
        raise RuntimeError

    monkeypatch.setattr(Endpoint, "initial", fall)
    reply = Client(raise_request_exception=False).get("/api/v1/accounts/")
    assert reply.status_code == 500
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Security-Policy"] == STRICT


@pytest.mark.parametrize(
    ("app", "method"),
    [
        (receiver.Receiver(None, most_bytes=1), "GET"),
        (health.Health(list), "GET"),
        (metrics.Metrics({}, ask=lambda: None), "GET"),
        (metrics.Metrics({}, ask=lambda: None), "POST"),
    ],
)
def test_the_doors_beside_django_allow_no_sniffing(app, method):
    path = "/health/live"
    reply = asyncio.run(asgi.call(app, method=method, path=path))
    assert reply.header("x-content-type-options") == "nosniff"


PROGRAM = """
import json, sys
import django
django.setup()
from django.test import Client
asked = json.loads(sys.stdin.read())
replies = []
for one in asked:
    reply = Client().generic(one["method"], one["path"], headers=one["headers"])
    replies.append({"status": reply.status_code, "headers": dict(reply.headers)})
from django.conf import settings
cookies = [settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE]
print(json.dumps([*replies, cookies]))
"""


def ask(*asked, **environment):
    """What a process with these settings answers; none of these asks the database."""
    base = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    base |= {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "SECRET_KEY": "x", "LOG_LEVEL": "ERROR"}
    base |= {"ENCRYPTION_KEYS": f"k1:{'A' * 43}=", "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=CODE,
        env=base | environment,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ORIGIN = "https://app.example.com"


def from_origin(method, path, origin=ORIGIN, **headers):
    return {"method": method, "path": path, "headers": {"Origin": origin, **headers}}


PREFLIGHT = {
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization, content-type, if-match, idempotency-key",
}


@pytest.mark.slow
def test_scripts_of_listed_origins_may_call_the_api_and_no_others():
    path = "/api/v1/accounts/"
    preflight, read, stranger, elsewhere, cookies = ask(
        from_origin("OPTIONS", path, **PREFLIGHT),
        from_origin("GET", path),
        from_origin("OPTIONS", path, "https://evil.example.com", **PREFLIGHT),
        from_origin("GET", "/nothing"),
        CORS_ALLOWED_ORIGINS=ORIGIN,
    )
    assert preflight["status"] == 200
    assert preflight["headers"]["access-control-allow-origin"] == ORIGIN
    allowed = preflight["headers"]["access-control-allow-headers"]
    assert {"authorization", "content-type", "if-match", "idempotency-key"} <= set(allowed.split(", "))
    assert "PATCH" in preflight["headers"]["access-control-allow-methods"]
    assert read["status"] == 401
    assert read["headers"]["access-control-allow-origin"] == ORIGIN
    assert "etag" in read["headers"]["access-control-expose-headers"]
    for reply in (preflight, read, stranger, elsewhere):
        assert "access-control-allow-credentials" not in reply["headers"]  # cookies are for our own pages
    for reply in (stranger, elsewhere):
        assert "access-control-allow-origin" not in reply["headers"]
    assert "origin" in read["headers"]["Vary"].lower()
    assert cookies == [False, False]


@pytest.mark.slow
def test_behind_tls_browsers_are_told_to_insist_on_it():
    secure = {"X-Forwarded-Proto": "https"}
    over_tls, not_over_tls, cookies = ask(
        {"method": "GET", "path": "/api/v1/nothing/", "headers": secure},
        {"method": "GET", "path": "/api/v1/nothing/", "headers": {}},
        BEHIND_TLS="1",
    )
    assert over_tls["headers"]["Strict-Transport-Security"] == "max-age=31536000"
    assert "Strict-Transport-Security" not in not_over_tls["headers"]
    assert cookies == [True, True]


@pytest.mark.parametrize(
    "value",
    [
        "https://app.example.com",
        "https://app.example.com:8443",
        "http://localhost:3000",
        "https://[2001:db8::1]",
    ],
)
def test_an_origin_is_a_scheme_and_a_host(value):
    assert origins("CORS_ALLOWED_ORIGINS", [value]) == [value]


@pytest.mark.parametrize(
    "value",
    [
        "*",
        "null",
        "app.example.com",
        "http://app.example.com",  # anybody in between could write its scripts
        "https://app.example.com/",
        "https://user@app.example.com",
        "https://*.example.com",
        "HTTPS://App.example.com",  # browsers send lower case
        "https://app.example.com?x",
    ],
)
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(SettingError, match="CORS_ALLOWED_ORIGINS must be origins like"):
        origins("CORS_ALLOWED_ORIGINS", [value])
