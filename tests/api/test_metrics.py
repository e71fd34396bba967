"""What does /metrics tell, to whom, and what does it cost?"""

import asyncio
import json
import sys
import threading
import time
from uuid import uuid4

import pytest
from django.db import OperationalError
from prometheus_client.parser import text_string_to_metric_families

from api import measured, metrics, receiver
from config.environment import SettingError
from config.traffic import token
from delivery import projections
from eventstore import lag
from outbox import queries as outbox
from tests.api import asgi, servers
from tests.delivery.logs import Delivery
from tests.eventstore import stores

TOKEN = "a token of the monitoring"


def ask(app, *, method="GET", headers=(), client="127.0.0.1"):
    async def from_there(scope, receive, send):
        await app({**scope, "client": client and (client, 40000)}, receive, send)

    reply = asyncio.run(asgi.call(from_there, method=method, path=metrics.PATH, headers=headers))
    assert reply is not None
    return reply


def read(body):
    """All samples, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def told(app=None):
    reply = ask(app or metrics.Metrics({}, ask=measured.state))
    assert reply.status == 200
    return read(reply.body)


def nothing():
    return None


# --- who may ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_who_connects_from_this_host_may(client):
    reply = ask(metrics.Metrics({}, ask=nothing), client=client)
    assert reply.status == 200
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.header("cache-control") == "no-store"


@pytest.mark.parametrize("client", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "", None])
def test_to_others_there_is_nothing(client):
    reply = ask(metrics.Metrics({}, ask=nothing), client=client)
    assert (reply.status, reply.json["type"]) == (404, "urn:data-pusher:problem:not-found")


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "Forwarded", "x-real-ip", "Via", "X-Forwarded-Proto", "X-Forwarded-Host"]
)
def test_through_a_proxy_on_this_host_there_is_nothing(name):
    assert ask(metrics.Metrics({}, ask=nothing), headers=[(name, "127.0.0.1")]).status == 404


@pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.1"])
def test_with_a_token_it_is_the_token_that_counts(client):
    app = metrics.Metrics({}, ask=nothing, token=TOKEN)
    assert ask(app, headers=[("Authorization", f"Bearer {TOKEN}")], client=client).status == 200
    assert ask(app, headers=[("authorization", f"bearer  {TOKEN}")], client=client).status == 200
    for headers in (
        [],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", TOKEN)],
        [("Authorization", b"Bearer \xff\xfe")],
    ):
        refused = ask(app, headers=headers, client=client)
        assert refused.status == 401
        assert refused.header("www-authenticate") == 'Bearer realm="Data Pusher metrics"'
        assert refused.json["type"] == "urn:data-pusher:problem:unauthenticated"


@pytest.mark.parametrize(
    "text", ["short", "x" * 15, "with a space and more", "é" * 20, "tab\tand more and more"]
)
def test_a_token_that_no_header_can_carry_is_named_and_not_quoted(text):
    with pytest.raises(SettingError, match="METRICS_TOKEN must be") as caught:
        token("METRICS_TOKEN", text)
    assert text not in str(caught.value)


def test_only_reading_is_allowed():
    refused = ask(metrics.Metrics({}, ask=nothing), method="POST")
    assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")


# --- what the process counts ------------------------------------------------------------------------------


def test_every_answer_of_the_receiver_is_counted():
    app = receiver.Receiver(None, most_bytes=10)
    told_before = told(metrics.Metrics(app.answered, ask=nothing))
    assert told_before["data_pusher_received_events_total", "accepted"] == 0
    assert told_before["data_pusher_refused_events_total", "not_json"] == 0
    asyncio.run(asgi.call(app, method="GET"))
    for _ in range(2):
        asyncio.run(asgi.call(app, headers=[("content-length", "11")]))
    found = told(metrics.Metrics(app.answered, ask=nothing))
    assert found["data_pusher_refused_events_total", "method"] == 1
    assert found["data_pusher_refused_events_total", "too_large"] == 2
    assert sum(app.answered.values()) == 3


def test_every_answer_has_a_reason_that_is_known():
    answers = [value for value in vars(receiver).values() if isinstance(value, receiver.Answer)]
    made = [receiver.too_large(1), receiver.too_many(5, 1), *answers]
    assert {answer.reason for answer in made} | set(receiver.STORED) == set(receiver.REASONS)
    assert len(receiver.REASONS) == len(set(receiver.REASONS))


def test_the_process_and_the_release_are_told_without_a_database():
    found = told(metrics.Metrics({}, ask=nothing))
    assert found["data_pusher_up",] == 0
    assert found["process_resident_memory_bytes",] > 0
    assert [key for key in found if key[0] == "data_pusher_build_info"] != []
    assert not [key for key in found if key[0].startswith("data_pusher_outbox")]


# --- what the database tells ------------------------------------------------------------------------------


def test_an_empty_database_has_its_series(database):
    found = told()
    assert found["data_pusher_up",] == 1
    for state in ("due", "claimed", "scheduled", "held"):
        assert found["data_pusher_outbox_deliveries", state] == 0
    assert found["data_pusher_outbox_oldest_due_seconds",] == 0
    assert found["data_pusher_unsealed_events",] == found["data_pusher_seal_lag_seconds",] == 0
    for name in ("delivery_log", "delivery_total"):
        assert found["data_pusher_projection_lag_blocks", name] == 0
        assert found["data_pusher_projection_lag_seconds", name] == 0


WAITING = """
    INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, fence, held)
    SELECT %s, lpad(to_hex(n), 32, '0')::uuid, gen_random_uuid(), %s, 1, 1,
           clock_timestamp() + %s * interval '1 second', %s, %s
      FROM generate_series(1, %s) AS n
"""


def wait(connected, *, due, number=1, fence=0, held=False):
    connected.execute(WAITING, [uuid4(), uuid4(), due, fence, held, number])


def test_what_waits_is_told_by_state(database):
    connected = database.connect()
    wait(connected, due=-100)
    wait(connected, due=-5, number=2)
    wait(connected, due=-1, fence=7)  # its lease has ended: it is due again
    wait(connected, due=30, number=5, fence=8)
    wait(connected, due=600, number=6)
    wait(connected, due=-900, number=7, held=True)
    lanes = "INSERT INTO lane (destination_id, resting) VALUES (%s, true), (%s, false)"
    connected.execute(lanes, [uuid4(), uuid4()])
    found = told()
    by_state = {
        state: found["data_pusher_outbox_deliveries", state]
        for state in ("due", "claimed", "scheduled", "held")
    }
    assert by_state == {"due": 4, "claimed": 5, "scheduled": 6, "held": 7}
    assert 100 <= found["data_pusher_outbox_oldest_due_seconds",] < 160
    assert found["data_pusher_destinations_resting",] == 1


def test_sealing_and_projecting_lag_until_they_are_done(database):
    connected = database.connect()
    stores.append(connected, count=3)
    time.sleep(0.05)
    found = told()
    assert found["data_pusher_unsealed_events",] == 3
    assert 0.05 <= found["data_pusher_seal_lag_seconds",] < 60
    assert found["data_pusher_projection_lag_blocks", "delivery_log"] == 0
    stores.seal_all(connected)
    stores.append(connected, count=1)
    stores.seal_all(connected)
    found = told()
    assert found["data_pusher_unsealed_events",] == 0
    assert found["data_pusher_projection_lag_blocks", "delivery_log"] == 2
    assert found["data_pusher_projection_lag_seconds", "delivery_log"] > 0
    while stores.project(connected, "delivery_log"):
        pass
    found = told()
    assert found["data_pusher_projection_lag_blocks", "delivery_log"] == 0
    assert found["data_pusher_projection_lag_seconds", "delivery_log"] == 0
    assert found["data_pusher_projection_lag_blocks", projections.TOTALS] == 2


def test_an_event_of_a_transaction_that_was_open_at_the_seal_counts_as_unsealed(database):
    """It is older than the last block, and in none."""
    late = database.connect(autocommit=False)
    stores.append(late)
    sealer = database.connect()
    stores.append(sealer)
    stores.seal_all(sealer)
    late.commit()
    assert lag.unsealed().events == 1
    stores.seal_all(sealer)
    assert lag.unsealed().events == 0


def test_events_and_attempts_are_told_by_type_and_outcome(database):
    connected = database.connect()
    Delivery(connected).received().attempted(1).succeeded(2)
    Delivery(connected).received().interrupted(1).attempted(2, "dns", None).exhausted(3, "dns", None)
    stores.seal_all(connected)
    while stores.project(connected, projections.TOTALS):
        pass
    found = told()
    assert found["data_pusher_history_events_total", "event.received"] == 2
    attempts = {
        key[1]: value for key, value in found.items() if key[0] == "data_pusher_delivery_attempts_total"
    }
    assert attempts["dns"] == 2
    assert attempts["interrupted"] == 1
    assert sum(attempts.values()) == 5


def test_a_database_that_is_away_is_a_number_and_no_failure(database, monkeypatch):
    def fall():
        raise OperationalError("connection to db-7.internal refused")

    monkeypatch.setattr(measured.transaction, "atomic", fall)
    assert told()["data_pusher_up",] == 0


def test_a_statement_that_takes_too_long_is_ended(database, monkeypatch):
    monkeypatch.setattr(measured, "STATEMENT_MS", 100)
    monkeypatch.setattr(lag, "_UNSEALED", "SELECT 1, 1.0 FROM pg_sleep(5)")
    began = time.monotonic()
    assert measured.state() is None
    assert time.monotonic() - began < 3
    monkeypatch.undo()
    assert measured.state() is not None


def test_the_database_is_asked_once_a_second_at_most_whoever_asks():
    asked = []
    app = metrics.Metrics({}, ask=lambda: asked.append(1))

    async def scenario():
        await asyncio.gather(*(asgi.call(app, method="GET", path=metrics.PATH) for _ in range(20)))

    asyncio.run(scenario())
    assert len(asked) == 1


def test_a_database_that_swallows_the_question_delays_nobody_for_long(monkeypatch):
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", 0.1)
    free = threading.Event()
    app = metrics.Metrics({}, ask=lambda: free.wait(10) and None)
    began = time.monotonic()
    found = told(app)
    assert time.monotonic() - began < 2
    assert found["data_pusher_up",] == 0
    free.set()
    asyncio.run(app.stop())


@pytest.mark.slow
def test_many_that_wait_cost_about_what_some_do(database):
    """Counted to the cap, by index; the estimate tells how many there are."""
    connected = database.connect()

    def cost():
        measured.state()
        took = []
        for _ in range(5):
            began = time.perf_counter()
            assert measured.state() is not None
            took.append(time.perf_counter() - began)
        return min(took)

    def fill(number):
        wait(connected, due=-3600, number=number)
        wait(connected, due=20, number=number)
        wait(connected, due=600, number=number)
        wait(connected, due=-60, number=number, held=True)

    fill(outbox.CAP)
    small = cost()
    fill(8 * outbox.CAP)
    database.connect_owner().execute("ANALYZE outbox")
    large = cost()
    state = measured.state()
    assert state is not None
    assert (state.depth.due, state.depth.held) == (outbox.CAP, outbox.CAP)
    assert 300_000 < state.depth.estimated < 420_000
    assert large < max(5 * small, 0.1)


@pytest.mark.slow
def test_several_processes_count_together_and_log_in_one_form(database):
    port = servers.free_port()
    argv = [sys.executable, "manage.py", "web", "--port", str(port), "--workers", "2"]
    environment = database.environment | {"LOG_LEVEL": "INFO"}
    with servers.running(argv, port, environment=environment) as process:
        for path in ["/server/incoming_data"] * 40 + ["/nothing"]:
            _get(port, path)
        time.sleep(metrics.SHARE_SECONDS + 0.3)
        found = [read(_get(port, metrics.PATH).body) for _ in range(8)]
        process.terminate()
        said, _ = process.communicate(timeout=15)
    assert {one["data_pusher_refused_events_total", "method"] for one in found} == {40}
    assert {one["data_pusher_received_events_total", "accepted"] for one in found} == {0}
    assert {one["data_pusher_up",] for one in found} == {1}
    assert {one["data_pusher_outbox_deliveries", "due"] for one in found} == {0}
    logged = [json.loads(line) for line in said.splitlines()]
    assert [line["status"] for line in logged if line["logger"] == "api.requests"] == [404]


def _get(port, path):
    wire = servers.Wire(port)
    wire.say(f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close")
    reply = wire.hear()
    wire.close()
    assert reply is not None
    return reply
