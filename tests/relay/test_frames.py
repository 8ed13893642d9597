"""What is written by hand is what py-amqp would write, byte for byte."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from outbox import message
from relay.frames import FIELDS, Content, publish, serialized

SHORT = st.text(max_size=63)
TEXT = st.text(max_size=300)
VALUES = st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1))
SIZES = {"delivery_mode": st.integers(0, 255), "timestamp": st.integers(0, 2**63 - 1)}
PROPERTIES = st.fixed_dictionaries({name: SIZES.get(name, SHORT) for name in FIELDS})


class Line:
    """Takes what a channel would have written."""

    channel_id = 7

    def __init__(self) -> None:
        self.written: list[tuple[Any, ...]] = []
        self.connection = self

    def frame_writer(self, *frame: Any) -> None:
        self.written.append(frame)


@given(PROPERTIES, st.dictionaries(SHORT, VALUES, max_size=6))
def test_properties_are_those_of_py_amqp(properties: dict[str, Any], headers: dict[str, Any]) -> None:
    theirs = Message(b"", application_headers=headers, **properties)
    assert serialized(properties, headers) == theirs._serialize_properties()


@given(SHORT, SHORT)
def test_so_is_the_method(exchange: str, routing_key: str) -> None:
    line = Line()
    content = Content(b"{}", dict.fromkeys(FIELDS, "") | dict.fromkeys(SIZES, 1), {})
    publish(line, content, exchange, routing_key)
    method = dumps("Bssbb", (0, exchange, routing_key, True, False))
    assert line.written == [(1, 7, spec.Basic.Publish, method, content)]


def test_the_fields_are_those_of_a_message() -> None:
    properties, _ = message.outgoing(
        id=UUID(int=1),
        kind="k",
        key=None,
        content_type="application/json",
        headers=None,
        version=1,
        attempt=0,
        term=1,
        possible_duplicate=False,
        created_at=datetime.now(UTC),
    )
    assert set(properties) == set(FIELDS)


@pytest.mark.parametrize("long", [{"type": "x" * 256}, {"timestamp": -1}])
def test_what_does_not_fit_is_refused_before_it_is_written(long: dict[str, Any]) -> None:
    properties = dict.fromkeys(FIELDS, "") | dict.fromkeys(SIZES, 1) | long
    with pytest.raises(struct.error):
        Content(b"", properties, {})


def test_so_is_the_name_of_a_header() -> None:
    with pytest.raises(struct.error):
        serialized(dict.fromkeys(FIELDS, "") | dict.fromkeys(SIZES, 1), {"x" * 256: "v"})
