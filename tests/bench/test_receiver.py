"""Does the fast receiver see what a careful one would?"""

import socket
import time
from collections.abc import Iterator

import pytest

from bench.receiver import Receiver

OK = b"HTTP/1.1 200 Scripted\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Scripted\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made
    assert made.process.returncode == 0


@pytest.fixture
def receiver(running: Receiver) -> Receiver:
    running.reset()
    return running


@pytest.fixture
def wire(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as connected:
        yield connected


def request(path: str, event_id: str, body: bytes = b"{}") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nwebhook-id: d-{event_id}\r\nCl-X-Event-Id: {event_id}\r\n"
    return f"{head}CL-X-ATTEMPT: 2\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def read(wire: socket.socket, expected: bytes) -> None:
    answer = b""
    while len(answer) < len(expected):
        answer += wire.recv(4096)
    assert answer == expected


def test_a_request_is_answered_and_written_down(receiver: Receiver, wire: socket.socket) -> None:
    before = time.monotonic_ns()
    wire.sendall(request("/hook?a=b", "Order-1"))
    read(wire, OK)
    (sighting,) = receiver.sightings()
    assert (sighting.path, sighting.event_id, sighting.delivery_id) == ("/hook", "Order-1", "d-Order-1")
    assert sighting.attempt == 2
    assert before < sighting.at_ns < time.monotonic_ns()


def test_pieces_and_several_at_once_are_the_same_requests(receiver: Receiver, wire: socket.socket) -> None:
    three = request("/a", "1") + request("/b", "2", body=b"x" * 100_000) + request("/c", "3", body=b"")
    for begin in range(0, len(three), 30_011):
        wire.sendall(three[begin : begin + 30_011])
    read(wire, OK * 3)
    assert [(one.path, one.event_id) for one in receiver.sightings()] == [
        ("/a", "1"),
        ("/b", "2"),
        ("/c", "3"),
    ]


def test_a_get_has_no_body_to_wait_for(receiver: Receiver, wire: socket.socket) -> None:
    wire.sendall(b"GET /get HTTP/1.1\r\nCL-X-EVENT-ID: g\r\n\r\n")
    read(wire, OK)
    assert receiver.count() == 1


def test_a_path_answers_as_it_was_told(receiver: Receiver, wire: socket.socket) -> None:
    receiver.answer("/busy", status=503, delay=0.05)
    began = time.monotonic()
    wire.sendall(request("/busy", "1") + request("/other", "2"))
    read(wire, BUSY + OK)  # in the order of the requests, though the second was ready first
    assert time.monotonic() - began >= 0.05


def test_a_path_may_never_answer(receiver: Receiver, wire: socket.socket) -> None:
    receiver.answer("/dead", delay=None)
    wire.sendall(request("/dead", "1"))
    receiver.wait_for(1, timeout=5)
    wire.settimeout(0.05)
    with pytest.raises(TimeoutError):
        wire.recv(1)


def test_reset_forgets_what_was_seen(receiver: Receiver, wire: socket.socket) -> None:
    wire.sendall(request("/a", "1"))
    receiver.wait_for(1, timeout=5)
    receiver.reset()
    assert receiver.count() == 0
    assert receiver.sightings() == []
    with pytest.raises(TimeoutError, match="0 of 1"):
        receiver.wait_for(1, timeout=0)
