"""Is a client that is made from the committed document one that works?

openapi-python-client makes it, without a network; then it is used as its reader would, on a served gateway.
"""

import contextlib
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from tests.api import servers
from tests.api.documented import COMMITTED, document, operations
from tests.fuzz import staging
from tests.fuzz.stage import PASSWORD, Stage

pytestmark = pytest.mark.slow

PACKAGE = "data_pusher_client"
GENERATOR = Path(sys.executable).with_name("openapi-python-client")
SERVER = {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_POOL": "1", "LOG_LEVEL": "WARNING"}
URL = "https://hooks.example.org/in"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("client")
    config = folder / "config.yaml"
    config.write_text("post_hooks: []\n")
    options = ("--meta", "none", "--config", str(config), "--fail-on-warning")
    target = folder / PACKAGE
    subprocess.run(
        [str(GENERATOR), "generate", "--path", str(COMMITTED), "--output-path", str(target), *options],
        check=True,
        capture_output=True,
        text=True,
    )
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


class Client:
    """Its functions by the names of their operations: `client.list_accounts(page_size=2)`."""

    def __init__(self, package: ModuleType, url: str, **token: str) -> None:
        self._package = package
        self.client = package.AuthenticatedClient(url, **token) if token else package.Client(url)
        tags = {operation["operationId"]: operation["tags"][0] for _, _, operation in operations(document())}
        self._modules = {name: f"{PACKAGE}.api.{tag}.{name}" for name, tag in tags.items()}

    def __getattr__(self, name: str) -> Any:
        function = importlib.import_module(self._modules[name]).sync_detailed
        return lambda *ids, **given: function(*ids, client=self.client, **given)


@pytest.fixture
def connect(package) -> Iterator[Callable[..., Client]]:
    with contextlib.ExitStack() as stack:

        def connected(stage: Stage, **token: str) -> Client:
            client = Client(package, stage.url, **token)
            stack.callback(client.client.get_httpx_client().close)
            return client

        yield connected


@pytest.fixture
def stage(database, tmp_path) -> Iterator[Stage]:
    with servers.site(database.environment | SERVER, tmp_path / "server.log") as url:
        yield staging.prepare(url)


def models(package: ModuleType) -> ModuleType:
    return importlib.import_module(f"{package.__name__}.models")


def test_there_is_a_function_for_every_operation(package):
    client = Client(package, "http://127.0.0.1:1")
    for _, _, operation in operations(document()):
        assert callable(getattr(client, operation["operationId"]))


def test_from_registering_to_a_destination(package, connect, stage):
    of = models(package)
    visitor = connect(stage)
    person = {"email": "carol@people.example.com", "password": PASSWORD}
    registered = visitor.register(body=of.RegistrationRequest(**person))
    assert registered.status_code == HTTPStatus.CREATED
    assert registered.parsed.data.email == "carol@people.example.com"
    wrong = visitor.log_in(body=of.CredentialsRequest(**person | {"password": "wrong"}))
    assert isinstance(wrong.parsed, of.Problem)
    assert (wrong.status_code, wrong.parsed.type_) == (401, "urn:data-pusher:problem:wrong-credentials")
    token = visitor.log_in(body=of.CredentialsRequest(**person)).parsed.data.token

    carol = connect(stage, token=token)
    assert carol.me().parsed.may_create_accounts is True
    made = carol.create_account(body=of.AccountRequest(name="Orders"), idempotency_key="once")
    again = carol.create_account(body=of.AccountRequest(name="Orders"), idempotency_key="once")
    assert again.parsed.data.id == made.parsed.data.id
    assert again.headers["Idempotency-Replayed"] == "true"
    account = made.parsed.data
    assert isinstance(account.id, UUID)
    assert account.created_at.tzinfo is not None

    new = of.DestinationRequest(
        url=URL,
        http_method=of.HttpMethod.POST,
        headers=of.DestinationRequestHeaders.from_dict({"Authorization": "Bearer of-the-receiver"}),
        retry_schedule_seconds=[5, 30],
    )
    destination = carol.create_destination(account.id, body=new).parsed.data
    assert destination.signing_secret.startswith("whsec_")
    assert destination.headers["Authorization"] == "********"
    assert destination.retry_schedule_seconds == [5, 30]

    sender = connect(stage, token=account.app_secret_token, prefix="", auth_header_name="CL-X-TOKEN")
    order = of.Payload.from_dict({"order": 1})
    assert sender.receive_event(body=order, cl_x_event_id="order-1").parsed.event.deliveries == 1
    assert sender.receive_event(body=order, cl_x_event_id="order-1").parsed.event.duplicate is True
    other = sender.receive_event(body=of.Payload.from_dict({}), cl_x_event_id="order-1")
    assert isinstance(other.parsed, of.Refused)
    assert other.parsed.errors["CL-X-EVENT-ID"]


def test_what_is_wrong_is_told_field_by_field(package, connect, stage):
    of = models(package)
    alice, account = connect(stage, token=stage.bearer), stage.ids["account_id"][0]
    private = of.DestinationRequest(
        url="http://10.0.0.1/",
        http_method=of.HttpMethod.GET,
        headers=of.DestinationRequestHeaders(),
        timeout_seconds=31,
    )
    refused = alice.create_destination(account, body=private)
    assert (refused.status_code, refused.parsed.type_) == (400, "urn:data-pusher:problem:invalid-data")
    assert set(refused.parsed.errors.additional_properties) == {"url", "timeout_seconds"}
    assert alice.read_account(UUID(int=7)).parsed.message == "Not Found"


def test_lists_are_filtered_and_followed_page_by_page(package, connect, stage):
    of = models(package)
    alice, account = connect(stage, token=stage.bearer), stage.ids["account_id"][0]
    names = [f"Branch {number}" for number in range(5)]
    for name in names:
        alice.create_account(body=of.AccountRequest(name=name))
    found, cursor = [], {}
    while True:
        page = alice.list_accounts(
            search="branch", page_size=2, ordering=of.ListAccountsOrdering.NAME_DESCENDING, **cursor
        ).parsed
        found += [one.name for one in page.results]
        if page.next_ is None:
            break
        cursor = {"cursor": parse_qs(urlsplit(page.next_).query)["cursor"][0]}
    assert found == names[::-1]
    active = alice.list_destinations(account, active=True, http_method=of.HttpMethod.POST).parsed
    assert len(active.results) == 2
    assert alice.list_destinations(account, active=False).parsed.results == []
    members = alice.list_members(account, role=of.RoleName.NORMAL_USER, email="bob@shop.example.org").parsed
    assert [one.role for one in members.results] == [of.RoleName.NORMAL_USER]


def test_a_change_goes_by_what_was_seen(package, connect, stage):
    of = models(package)
    alice, account = connect(stage, token=stage.bearer), stage.ids["account_id"][0]
    seen = alice.read_account(account).headers["ETag"]
    assert alice.read_account(account, if_none_match=seen).status_code == HTTPStatus.NOT_MODIFIED
    changed = alice.update_account(account, body=of.PatchedAccountRequest(name="First"), if_match=seen)
    assert (changed.status_code, changed.parsed.data.name) == (200, "First")
    late = alice.update_account(account, body=of.PatchedAccountRequest(name="Second"), if_match=seen)
    assert (late.status_code, late.parsed.type_) == (412, "urn:data-pusher:problem:stale")


def test_logs_and_the_history_are_read(package, connect, stage):
    of = models(package)
    alice, account = connect(stage, token=stage.bearer), stage.ids["account_id"][0]
    failed = alice.list_logs(account, status=of.LogStatus.FAILED, page_size=3).parsed.results
    assert len(failed) == 3
    assert failed[0].received_data.to_dict() == {"order": 1, "total": 9.9}
    detail = alice.read_log(account, failed[0].id).parsed
    assert [attempt.response_status for attempt in detail.attempt_list] == [400]
    assert alice.redeliver(account, failed[0].id).parsed.data.status is of.LogStatus.PENDING
    assert alice.redeliver(account, failed[0].id).parsed.message == "Conflict"
    history = alice.list_events(account, page_size=2).parsed.results
    later = alice.list_events(account, after=history[-1].position).parsed.results
    assert later[0].position > history[-1].position
