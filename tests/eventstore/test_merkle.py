"""The SQL that seals and the Python that verifies agree on every byte, and with RFC 6962."""

import hashlib
import random
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import verify
from tests.databases import Database
from tests.eventstore import stores


def rfc_6962(leaves: list[bytes]) -> bytes:
    """Section 2.1, word by word: k is the largest power of two smaller than n."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + rfc_6962(leaves[:k]) + rfc_6962(leaves[k:])).digest()


def test_roots_are_those_of_the_rfc_in_python():
    randomly = random.Random(6962)  # noqa: S311 - a seed, no secret
    for count in range(1, 301):
        leaves = [randomly.randbytes(32) for _ in range(count)]
        assert verify.merkle_root(leaves) == rfc_6962(leaves)


def test_roots_are_those_of_the_rfc_in_sql(database: Database):
    connection = database.connect()
    randomly = random.Random(2 * 6962)  # noqa: S311 - a seed, no secret
    for count in [*range(1, 70), *randomly.sample(range(70, 301), 60), 300]:
        leaves = [randomly.randbytes(32) for _ in range(count)]
        assert stores.number(connection, "SELECT pusher.merkle_root(%s)", leaves) == rfc_6962(leaves), count


NASTY = [
    {},
    {"": ""},
    {"quote": 'a"b\\c/d', "control": "\x01\x02\b\f\n\r\t\x1f\x7f", "line": "\u2028\u2029\u0085"},
    {"unicode": "Zürich 東京 🚀 \U0010ffff e\u0301", "ключ": "значение", "\ufeff": "\ufffe"},
    {"big": 10**30, "small": -(2**63), "zero": 0},
    {"nested": [[[], {}, [None, True, False]], {"a": {"b": [1, {"c": "d"}]}}]},
    {"z": 1, "a": 2, "bb": 3, "aa": 4},  # jsonb has its own order of keys
    {"looks like": "\\u0041 \\n {} [] , : null"},
]


@pytest.mark.parametrize("data", NASTY, ids=range(len(NASTY)))
def test_a_line_of_nasty_data_is_the_same_in_both_and_its_hash_is_the_leaf(database: Database, data):
    connection = database.connect()
    stores.append(connection, data=data, kind='a "type"\n\u2028')
    stores.seal(connection)
    line = stores.number(connection, "SELECT pusher.line(e) FROM event e")
    (row,) = verified_rows(connection)
    assert verify.event_line(row) == line
    assert row.leaf == hashlib.sha256(b"\x00" + line.encode()).digest()
    assert verify.verify(connection).damages == []


json_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
json_data = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | json_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(json_text, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(json_text, json_data, max_size=4),
    kind=json_text,
    account=st.uuids(),
    digest=st.none() | st.binary(min_size=32, max_size=32),
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
)
def test_any_line_is_the_same_in_both(database: Database, *, data, kind, account, digest, moment):
    connection = database.connect()
    try:
        connection.execute(
            "SELECT pusher.append(0::smallint, %s, %s, '{1}', %s, %s::jsonb[], %s, %s)",
            [[account], [uuid4()], [kind], [stores.Jsonb(data)], [digest], moment],
        )
        stores.seal(connection)
        row = verified_rows(connection)[-1]
        line = stores.number(connection, "SELECT pusher.line(e) FROM event e ORDER BY seq DESC LIMIT 1")
        assert verify.event_line(row) == line
        assert verify.leaf_hash(line) == row.leaf
    finally:
        connection.close()


def test_the_documented_line_can_be_hashed_by_anyone(database: Database):
    connection = database.connect()
    account, stream = UUID(int=1), UUID(int=2)
    connection.execute(
        "SELECT pusher.append(0::smallint, %s, %s, '{1}', '{a.b}', %s::jsonb[], %s, %s)",
        [
            [account],
            [stream],
            [stores.Jsonb({"b": 1, "a": "x"})],
            [b"\xab" * 32],
            datetime(2026, 11, 21, 1, 2, 3, 123456, UTC),
        ],
    )
    stores.seal(connection)
    expected = (
        '{"scope":0,"epoch":1,"account_id":"00000000-0000-0000-0000-000000000001",'
        '"stream_id":"00000000-0000-0000-0000-000000000002","version":1,"type":"a.b",'
        '"recorded_at":"2026-11-21T01:02:03.123456Z","payload_digest":"' + "ab" * 32 + '",'
        '"data":{"a": "x", "b": 1}}'
    )
    assert stores.number(connection, "SELECT pusher.line(e) FROM event e") == expected
    leaf = stores.number(connection, "SELECT leaf FROM event_position")
    assert leaf == hashlib.sha256(b"\x00" + expected.encode()).digest()


def verified_rows(connection: stores.Connection) -> list[verify.Row]:
    total = stores.number(connection, "SELECT max(position) FROM event_position")
    return list(verify._Verifier(connection, lambda *_: None).rows(total))
