"""Ids are ordered by time, and no two are alike."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

from eventstore import identifiers


def test_ids_are_version_7_and_grow():
    ids = [identifiers.uuid7() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert {(found.version, found.variant) for found in ids} == {(7, RFC_4122)}


def test_an_id_begins_with_its_millisecond():
    before = time.time_ns() // 1_000_000
    stamped = identifiers.uuid7().int >> 80
    assert before <= stamped <= time.time_ns() // 1_000_000


def test_ids_grow_when_the_clock_steps_back(monkeypatch):
    first = identifiers.uuid7()
    hour_ago = time.time_ns() - 3_600 * 10**9
    monkeypatch.setattr(identifiers.time, "time_ns", lambda: hour_ago)
    assert identifiers.uuid7() > first


def test_a_full_counter_moves_on_to_the_next_millisecond(monkeypatch):
    now = time.time_ns() + 10**9
    monkeypatch.setattr(identifiers.time, "time_ns", lambda: now)
    identifiers.uuid7()
    monkeypatch.setattr(identifiers, "_counter", 2**42 - 1)
    last = identifiers.uuid7()
    assert (last.int >> 80) == now // 1_000_000 + 1


def test_threads_share_no_id():
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: identifiers.uuid7(), range(20_000)))
    assert len(set(ids)) == len(ids)
