"""What goes over the wire is the contract; what comes from anybody is read, and never breaks a consumer."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox import message
from outbox.message import Incoming, adopted_id, incoming, outgoing

ID = UUID("01927c6e-0000-7000-8000-000000000007")
AT = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
JOB: dict[str, Any] = {
    "id": ID,
    "kind": "order.paid",
    "key": "order:7",
    "content_type": "application/json",
    "headers": {"tenant": "acme", "traceparent": "00-ab-cd-01"},
    "version": 3,
    "attempt": 2,
    "term": 41,
    "possible_duplicate": True,
    "created_at": AT,
}
FOREIGN = {"message_id": "evt_1", "type": "order.paid", "content_type": "application/json"}


def test_a_job_is_sent_with_these_properties_and_headers() -> None:
    assert outgoing(**JOB) == (
        {
            "message_id": "01927c6e-0000-7000-8000-000000000007",
            "type": "order.paid",
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "timestamp": 1767323045,
            "delivery_mode": 2,
            "app_id": "outbox-relay",
        },
        {
            "tenant": "acme",
            "traceparent": "00-ab-cd-01",
            "x-outbox-version": 3,
            "x-outbox-attempt": 2,
            "x-outbox-term": 41,
            "x-outbox-key": "order:7",
            "x-outbox-possible-duplicate": True,
        },
    )


def test_an_event_without_a_key_is_sent_with_its_term_alone() -> None:
    plain = JOB | {"key": None, "version": None, "headers": None, "possible_duplicate": False}
    assert outgoing(**plain)[1] == {"x-outbox-term": 41}


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/cloudevents+json", "utf-8"),
        ("text/plain", "binary"),
        ("image/png", "binary"),
    ],
)
def test_only_json_is_said_to_be_utf_8(content_type: str, encoding: str) -> None:
    assert outgoing(**JOB | {"content_type": content_type})[0]["content_encoding"] == encoding


def test_headers_of_a_row_added_in_sql_are_sent_as_text_and_forge_nothing() -> None:
    stored = {"n": 7, "list": [1], "none": None, "x-outbox-version": 1, "x-outbox-key": "k", "ok": "ok"}
    event = JOB | {"key": None, "version": None, "possible_duplicate": False, "headers": stored}
    assert outgoing(**event)[1] == {"n": "7", "list": "[1]", "none": "null", "ok": "ok", "x-outbox-term": 41}
    assert stored["n"] == 7


def test_a_job_comes_back_as_it_was_sent_through_the_encoding_of_amqp() -> None:
    properties, headers = outgoing(**JOB)
    (arrived,), _ = loads("F", dumps("F", [headers]), 0)
    assert incoming(b"{}", properties, arrived) == Incoming(
        body=b"{}",
        message_id=str(ID),
        kind="order.paid",
        content_type="application/json",
        content_encoding="utf-8",
        timestamp=1767323045,
        headers={"tenant": "acme", "traceparent": "00-ab-cd-01"},
        job_id=ID,
        version=3,
        attempt=2,
        term=41,
        key="order:7",
        possible_duplicate=True,
        problem=None,
    )


def test_an_event_comes_back_without_a_job_id_although_its_message_id_is_one() -> None:
    properties, headers = outgoing(**JOB | {"version": None})
    arrived = incoming(b"{}", properties, headers)
    assert (arrived.message_id, arrived.job_id, arrived.version) == (str(ID), None, None)
    assert arrived.problem is None


def test_another_senders_message_is_read_by_its_native_properties() -> None:
    arrived = incoming(b"{}", FOREIGN, None)
    assert (arrived.message_id, arrived.kind, arrived.problem) == ("evt_1", "order.paid", None)
    assert (arrived.job_id, arrived.version, arrived.key, arrived.timestamp) == (None, None, None, None)
    assert (arrived.possible_duplicate, arrived.headers) == (False, {})


def test_a_message_without_a_content_type_is_bytes() -> None:
    properties = {"message_id": "evt_1", "type": "order.paid"}
    assert incoming(b"{}", properties, {}).content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("properties", "headers", "problem"),
    [
        (None, None, "message_id is missing"),
        ({"type": "k"}, {}, "message_id is missing"),
        ({"message_id": "evt_1"}, {}, "type is missing"),
        ({"message_id": "", "type": "k"}, {}, "message_id is empty"),
        ({"message_id": 7, "type": "k"}, {}, "message_id is int, not str"),
        (
            {"message_id": "\ud800", "type": "k"},
            {},
            "message_id holds a lone surrogate",
        ),
        ({"message_id": "a", "type": "k.#"}, {}, "kind holds * or #, which are wildcards to a broker"),
        (
            FOREIGN,
            {"x-outbox-version": 1},
            "message_id is no UUID, although",
        ),
        (FOREIGN, {"x-outbox-version": "one"}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": True}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": 1.5}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": -1}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": 2**63}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": "9" * 5000}, "x-outbox-version is no whole number"),
        (FOREIGN, {"x-outbox-version": 0}, "x-outbox-version is 0, versions begin at 1"),
        (FOREIGN, {"x-outbox-key": "a\0"}, "x-outbox-key holds a control character"),
        (FOREIGN, {"x-outbox-key": ["a"]}, "x-outbox-key is list, not str"),
    ],
)
def test_what_cannot_be_handled_is_told_in_one_line(properties: Any, headers: Any, problem: str) -> None:
    told = incoming(b"{}", properties, headers).problem
    assert told is not None
    assert told.startswith(problem)


def test_a_version_that_a_gateway_turned_into_text_is_read() -> None:
    arrived = incoming(b"{}", FOREIGN | {"message_id": str(ID)}, {"x-outbox-version": "12"})
    assert (arrived.version, arrived.job_id, arrived.problem) == (12, ID, None)


@pytest.mark.parametrize("value", ["many", None, -1, 2**70, True, {}])
def test_what_nothing_depends_on_may_be_wrong(value: Any) -> None:
    properties = FOREIGN | {"timestamp": value, "content_encoding": value}
    arrived = incoming(b"{}", properties, {"x-outbox-attempt": value, "x-outbox-term": value})
    assert (arrived.problem, arrived.attempt, arrived.term, arrived.timestamp) == (None, None, None, None)


@pytest.mark.parametrize("timestamp", [1767323045, 1767323045.9, AT, AT.replace(tzinfo=None)])
def test_a_timestamp_is_read_in_every_form_that_transports_give(timestamp: Any) -> None:
    assert incoming(b"", FOREIGN | {"timestamp": timestamp}, {}).timestamp == 1767323045


@pytest.mark.parametrize("body", [bytearray(b"Zo\xc3\xab"), memoryview(b"Zo\xc3\xab"), "Zoë"])
def test_a_body_is_bytes_in_whatever_form_it_came(body: object) -> None:
    arrived = incoming(body, FOREIGN, {})
    assert (type(arrived.body), arrived.body, arrived.problem) == (bytes, b"Zo\xc3\xab", None)


def test_a_body_that_is_neither_bytes_nor_text_is_a_problem() -> None:
    assert incoming({"a": 1}, FOREIGN, {}).problem == "the body is dict, not bytes"


def test_a_job_carries_on_the_headers_that_are_text_or_can_be_told_as_text() -> None:
    came = {
        "text": "x",
        "int": 7,
        "bool": True,
        "decimal": Decimal("1.5"),
        "time": AT,
        "bytes": b"abc",
        "binary": b"\xff",
        "x-death": [{"count": 1}],
        "table": {"a": 1},
        "none": None,
        "nul": "\0",
        "surrogate": "\ud800",
        "compression": "gzip",
        "x-outbox-later": "ours",
        7: "seven",
    }
    assert incoming(b"", FOREIGN, came).headers == {
        "text": "x",
        "int": "7",
        "bool": "true",
        "decimal": "1.5",
        "time": "2026-01-02T03:04:05.999999+00:00",
        "bytes": "abc",
    }


AMQP = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.text(st.characters(categories=["Cs", "Cc"])),
        st.binary(),
        st.decimals(),
        st.datetimes(),
        st.sampled_from([10**4000, 2**63, "9" * 5000]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
"""Values of every AMQP type, and some that only other transports can carry."""

FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "message_id",
            "type",
            "content_type",
            "content_encoding",
            "timestamp",
            *(message.VERSION, message.ATTEMPT, message.TERM, message.KEY, message.POSSIBLE_DUPLICATE),
        ]
    )
    | st.text(max_size=3),
    AMQP | st.just(str(ID)),
    max_size=8,
)


@settings(max_examples=1_000, deadline=None)
@given(AMQP, FIELDS | AMQP, FIELDS | AMQP)
def test_whatever_comes_is_read_and_tells_what_is_wrong(body: Any, properties: Any, headers: Any) -> None:
    arrived = incoming(body, properties, headers)
    assert type(arrived.body) is bytes
    if arrived.problem is not None:
        assert arrived.problem.isprintable()
        return
    assert arrived.message_id
    assert arrived.kind
    assert (arrived.job_id is None) == (arrived.version is None)
    assert adopted_id(arrived.message_id, "receipts").version == 5


def test_a_message_is_adopted_under_the_same_id_for_ever() -> None:
    # A value of yesterday: were it to change, every event in every queue could be handled once more.
    assert adopted_id("evt_1", "receipts") == UUID("b5500c56-cc73-5dd1-b4c9-4f9683cbf65f")


def test_each_queue_adopts_a_message_for_itself() -> None:
    message_id = str(uuid4())
    assert adopted_id(message_id, "receipts") != adopted_id(message_id, "ledger")
    assert adopted_id("ab", "c") != adopted_id("a", "bc")


@pytest.mark.parametrize(("message_id", "queue"), [("a\nb", "c"), ("a", "b\nc"), ("", "c"), ("a", "")])
def test_names_that_could_be_mistaken_for_one_another_are_not_adopted(message_id: str, queue: str) -> None:
    with pytest.raises(ValueError, match=r"^(message_id|queue) (is empty|holds a control character)$"):
        adopted_id(message_id, queue)


def test_a_message_cannot_be_changed() -> None:
    arrived = incoming(b"", FOREIGN, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        arrived.version = 1  # type: ignore[misc]


def test_the_wire_is_told_without_kombu() -> None:
    code = "import sys, outbox.message; print({'kombu', 'amqp', 'psycopg'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"set()\n"
