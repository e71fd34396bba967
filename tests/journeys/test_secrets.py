"""Does a secret stay where it belongs, when all goes well and when much goes wrong?

A real deployment is used, misused and broken; then everything that it said, stored and answered is searched
for its secrets: as they are, and as base64, hex, percent-encoded or inside what Django-Q2 pickles.
"""

import base64
import contextlib
import json
import re
import secrets
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from django_q.signing import SignedPackage

from tests.api.servers import free_port, running
from tests.config.test_reporting import listening
from tests.journeys.clusters import run
from tests.outbox.test_worker_faults import away
from tests.outbox.workers import QUICK, Worker, eventually
from tests.receivers import Answer, Receiver


class Secrets:
    """By name; those that the product makes are learnt on the way."""

    def __init__(self, database) -> None:
        self.key = secrets.token_bytes(32)
        self.known = {
            "the user's password": f"pw-{secrets.token_hex(12)}",
            "a password that was tried": f"tried-{secrets.token_hex(12)}",
            "a header's value": f"hv-{secrets.token_hex(12)}",
            "the encryption key": base64.b64encode(self.key).decode(),
            "the secret key": f"sk-{secrets.token_hex(24)}",
            "the metrics' token": f"mt-{secrets.token_hex(12)}",
            "the database's password": urlsplit(database.url).password,
            "its owner's password": urlsplit(database.owner_url).password,
        }

    def __getitem__(self, name: str) -> str:
        return self.known[name]

    def learn(self, name: str, token: str) -> str:
        """Of a token the part that is secret: the id before it may be told."""
        self.known[name] = token.rpartition("_")[2]
        return token

    def found_in(self, text: bytes) -> list[str]:
        return [name for name, value in self.known.items() if any(form in text for form in _forms(value))]


def _forms(value: str) -> Iterator[bytes]:
    raws = {value.encode()}
    with contextlib.suppress(ValueError):
        raws.add(base64.b64decode(value, validate=True))
    for raw in raws:
        yield raw
        yield raw.hex().encode()
        yield quote(raw).encode()
        for lead in range(3):  # inside something longer, whatever comes before; its last letters may differ
            yield base64.b64encode(bytes(lead) + raw)[4 if lead else 0 : -4]


class Client:
    """Somebody with a browser and a terminal, who keeps every answer."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=20)
        self.bearer = "none"
        self.answers: list[httpx.Response] = []

    def close(self) -> None:
        self.http.close()

    def ask(self, method: str, path: str, *, told: bool = False, **options) -> httpx.Response:
        """`told`: the answer is where a new secret is shown, the one time."""
        headers = {"Authorization": f"Bearer {self.bearer}"} | options.pop("headers", {})
        answer = self.http.request(method, path, headers=headers, **options)
        if not told:
            self.answers.append(answer)
        return answer

    def made(self, path: str, content: object = None) -> dict:
        answer = self.ask("POST", path, told=True, json=content)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def send(self, token: str, event_id: str, body: bytes = b'{"a": 1}', **headers: str) -> httpx.Response:
        named = {"CL-X-TOKEN": token, "CL-X-EVENT-ID": event_id, "Content-Type": "application/json"}
        return self.ask("POST", "/server/incoming_data", content=body, headers=named | headers)


class Deployment:
    def __init__(self, database, folder: Path, sentry: str, known: Secrets) -> None:
        self.database, self.folder, self.port = database, folder, free_port()
        self.environment = {
            **QUICK,
            "SECRET_KEY": known["the secret key"],
            "ENCRYPTION_KEYS": f"k1:{known['the encryption key']}",
            "METRICS_TOKEN": known["the metrics' token"],
            "SENTRY_DSN": sentry,
            "LOG_LEVEL": "DEBUG",  # which has the lines of every other level
            "DRAIN_SECONDS": "3",
            "THROTTLE_ANONYMOUS": "1000/s",
        }

    @contextlib.contextmanager
    def serving(self) -> Iterator[Client]:
        argv = [sys.executable, "manage.py", "web", "--port", str(self.port)]
        environment = self.database.environment | self.environment
        with (self.folder / "web.log").open("w") as output, contextlib.ExitStack() as stack:
            self.worker = stack.enter_context(
                Worker(self.database, self.folder / "worker.log", **self.environment)
            )
            stack.enter_context(running(argv, self.port, environment=environment, output=output))
            with contextlib.closing(Client(f"http://127.0.0.1:{self.port}")) as client:
                yield client
            self.worker.process.terminate()
            self.worker.ends()

    def manage(self, *arguments: str) -> str:
        return run([sys.executable, "manage.py", *arguments], self.database.environment | self.environment)


HIDING = [
    ("as it is", lambda secret: f"x{secret}y"),
    ("in hex", lambda secret: secret.encode().hex()),
    ("percent-encoded", quote),
    ("in the middle of base64", lambda secret: base64.b64encode(f"Alice:{secret}:x".encode()).decode()),
    ("in a signed pickle", lambda secret: SignedPackage.dumps({"args": (secret,)}, compressed=False)),
    ("in a compressed one", lambda secret: SignedPackage.dumps({"args": (secret,) * 9}, compressed=True)),
]


@pytest.mark.parametrize("hide", [row[1] for row in HIDING], ids=[row[0] for row in HIDING])
def test_a_secret_is_found_wherever_it_hides(hide):
    secret = "pw-7d1c0f +/=&"
    row = f"(1,{hide(secret)},t)"
    text = f"{row}\n{_unpacked(row)}".encode()
    assert any(form in text for form in _forms(secret))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_no_secret_is_told(database, tmp_path):
    known = Secrets(database)
    with listening() as (sentry, dsn), Receiver() as receiver:
        deployment = Deployment(database, tmp_path, dsn, known)
        with deployment.serving() as client:
            account, token = used(client, receiver, known)
            misused(client, account, token, known)
            tasks = dumped(database, "django_q_%")
            broken(client, deployment, token, known)
            tasks += dumped(database, "django_q_%")
        metrics = next(one.text for one in client.answers if one.url.path == "/metrics" and one.is_success)
        history = deployment.manage("export", "--account", account)

    places = {
        "an answer": "\n".join(f"{one.headers}\n{_without_path(one)}" for one in client.answers),
        "the web's log": (tmp_path / "web.log").read_text(),
        "the worker's log": (tmp_path / "worker.log").read_text(),
        "a task": tasks,
        "a table": dumped(database, "%"),
        "the server's log": server_log(),
        "the metrics": metrics,
        "the history": history,
    }
    texts = {place: text.encode() for place, text in places.items()} | {"sentry": b"".join(sentry.bodies)}
    assert {place: found for place, text in texts.items() if (found := known.found_in(text))} == {}

    # It did go wrong, and much was said of it.
    assert {200, 201, 202, 400, 401, 404, 409, 503} <= {one.status_code for one in client.answers}
    assert {"delivery.succeeded", "delivery.attempted", "delivery.exhausted"} <= set(
        re.findall(r"delivery\.\w+", history)
    )
    assert "outbox.tasks" in tasks
    assert "not currently accepting connections" in places["the worker's log"]
    assert "# TYPE" in metrics
    assert sentry.bodies


def used(client: Client, receiver: Receiver, known: Secrets) -> tuple[str, str]:
    """As it is meant: an account with destinations, events, and every secret rotated."""
    email, password = "alice@shop.example.org", known["the user's password"]
    login = {"email": email, "password": password}
    client.ask("POST", "/api/v1/auth/register/", json=login)
    answer = client.ask("POST", "/api/v1/auth/login/", told=True, json=login)
    client.bearer = known.learn("the bearer token", answer.json()["data"]["token"])
    made = client.made("/api/v1/accounts/", {"name": "Shop"})
    account, old = made["id"], known.learn("the first token", made["app_secret_token"])
    rotated = client.made(f"/api/v1/accounts/{account}/token/rotate/", {"overlap_seconds": 60})
    token = known.learn("the next token", rotated["app_secret_token"])

    echo = Answer(500, known["a header's value"].encode(), {"X-Echo": known["a header's value"]})
    receiver.on("/failing", echo)
    receiver.on("/gone", Answer(410, known["a header's value"].encode()))
    with Receiver() as nobody:
        pass
    urls = [*(receiver.url(path) for path in ("/fine", "/failing", "/gone")), nobody.url()]
    for number, url in enumerate(urls):
        destination = client.made(
            f"/api/v1/accounts/{account}/destinations/",
            {
                "url": url,
                "http_method": "POST",
                "headers": {"X-Api-Key": known["a header's value"]},
                "timeout_seconds": 1,
                "retry_schedule_seconds": [1],
            },
        )
        path = f"/api/v1/accounts/{account}/destinations/{destination['id']}"
        rotated = client.made(f"{path}/signing-secret/rotate/")
        for name, value in (("first", destination), ("next", rotated)):
            known.learn(f"the {name} signing secret {number}", value["signing_secret"])
        client.ask("GET", f"{path}/")
        client.made(f"{path}/test/")
    assert client.send(old, "order-0").status_code == 202
    assert client.send(token, "order-1").status_code == 202
    assert client.send(token, "order-1", b'{"a": 2}').status_code == 409
    seen = receiver.wait_for(2, path="/fine")[0]
    assert seen.headers["x-api-key"] == known["a header's value"]
    assert len(seen.headers["webhook-signature"].split()) == 2, "old and new sign"
    return account, token


def misused(client: Client, account: str, token: str, known: Secrets) -> None:
    """The right secrets in the wrong places, and wrong ones in the right places."""
    password, tried, value = (
        known[name] for name in ("the user's password", "a password that was tried", "a header's value")
    )
    login, destinations = "/api/v1/auth/login/", f"/api/v1/accounts/{account}/destinations/"
    for content in (
        {"email": "alice@shop.example.org", "password": tried},
        {"email": password, "password": "alice@shop.example.org"},
        {"email": tried, "password": [password]},
        {"email": "alice@shop.example.org", "password": {"is": password}, "session": password},
        [password],
    ):
        client.ask("POST", login, json=content)
    client.ask("POST", login, content=f'{{"password": "{password}"'.encode())
    client.ask("POST", login, content=password.encode(), headers={"Content-Type": password})
    client.ask("POST", "/api/v1/auth/register/", json={"email": password, "password": tried})
    client.ask("POST", "/api/v1/auth/password/", json={"current_password": tried, "new_password": "short"})
    client.ask("GET", f"/api/v1/accounts/?token={token}&search={token}&ordering={token}")
    client.ask("GET", f"/api/v1/accounts/{token}/")
    client.ask("GET", "/api/v1/accounts/", headers={"Authorization": f"Bearer {token}"})
    client.ask("GET", "/api/v1/accounts/", headers={"Authorization": f"Basic {client.bearer}"})
    client.ask("GET", "/api/v1/accounts/", headers={"Host": f"{client.bearer}_"})
    client.ask("GET", f"/api/v1/accounts/{account}/logs/?status={token}&from={password}&cursor={token}")
    client.ask("GET", f"{destinations}?http_method={token}&active={token}")
    client.ask("GET", f"/api/v1/accounts/{account}/logs/?status={token}")
    for content in (
        {"url": f"https://user:{value}@hooks.example.org/", "http_method": "POST", "headers": {}},
        {"url": "https://hooks.example.org/", "http_method": value, "headers": {"X-Key": value}},
        {"url": "https://hooks.example.org/", "http_method": "POST", "headers": {"X-Key": f"{value}\n"}},
        {"url": "https://hooks.example.org/", "http_method": "POST", "headers": {"Cookie": value}},
        {"url": value, "http_method": "POST", "headers": value, "timeout_seconds": value},
    ):
        client.ask("POST", destinations, json=content)
    client.send(client.bearer, "order-2")
    client.send(f"{token[:-1]}!", "order-2")
    client.send(token, "order-2", token.encode())
    client.send(token, "order-2", f'{{"a": "{token}"'.encode())
    client.send(token, f"{token} {token}")
    client.send(token, "order-2", **{"Content-Type": token})
    client.ask("GET", "/metrics", headers={"Authorization": f"Bearer {tried}"})
    client.ask("GET", "/metrics", headers={"Authorization": f"Bearer {known["the metrics' token"]}"})
    client.ask("POST", "/metrics", headers={"Authorization": f"Bearer {known["the metrics' token"]}"})


def broken(client: Client, deployment: Deployment, token: str, known: Secrets) -> None:
    """The database is away while people come and deliveries wait; then all goes on."""
    client.send(token, "order-3")
    with away(deployment.database):
        client.send(token, "order-4")
        client.ask("GET", "/health/ready")
        login = {"email": "alice@shop.example.org", "password": known["the user's password"]}
        client.ask("POST", "/api/v1/auth/login/", json=login)
    again = deployment.database.connect()
    waiting = "SELECT count(*) FROM outbox"
    eventually(lambda: again.execute(waiting).fetchone() == (0,), "an empty outbox", deployment.worker)


def dumped(database, tables: str) -> str:
    """Every row but the payloads (what clients sent), and what lies packed in it, unpacked."""
    sql = database.connect_owner()
    names = sql.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        " AND relname LIKE %s AND relname <> 'payload'",
        [tables],
    ).fetchall()
    rows = [row for (name,) in names for (row,) in sql.execute(f'SELECT t::text FROM "{name}" t').fetchall()]
    return "\n".join([*rows, *(_unpacked(row) for row in rows)])


def _unpacked(row: str) -> str:
    """Django-Q2 keeps pickles in base64, signed ones perhaps compressed (a dot before them)."""
    found = []
    for dot, packed in re.findall(r"(\.?)([\w+/=-]{16,})", row):
        with contextlib.suppress(ValueError, zlib.error):
            raw = base64.b64decode(
                packed + "=" * (-len(packed) % 4),
                altchars=b"-_" if dot or "-" in packed or "_" in packed else None,
            )
            found.append(zlib.decompress(raw) if dot else raw)
    return b"\n".join(found).decode("latin-1")


def server_log() -> str:
    """Where the server is an embedded one."""
    from django.conf import settings

    logs = Path(settings.DATA_DIR).glob("postgres/*/server.log")
    return "\n".join(log.read_text(errors="replace") for log in logs)


def _without_path(answer: httpx.Response) -> str:
    """Whoever asks for a path that is a secret reads it again in `instance`; nobody else does."""
    with contextlib.suppress(ValueError):
        document = answer.json()
        return json.dumps({name: one for name, one in document.items() if name != "instance"})
    return answer.text
