"""Writes a message's properties as AMQP wants them, and the method that publishes it: no more, and fast.

py-amqp goes through tables of formats for every field of every message, which takes half of all the time of a
publish. The fields of ours are always the same, and most of their values too. Byte for byte it writes what
py-amqp would: a test compares the two.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from amqp import spec
from amqp.serialization import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS: Final = (
    *("content_type", "content_encoding", "delivery_mode"),
    *("message_id", "timestamp", "type", "app_id"),
)
"""The properties that each message has, beside its headers."""
_FLAGS: Final = struct.pack(">H", 1 << 15 | 1 << 14 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3)
_LENGTH: Final = struct.Struct(">I")
_TEXT: Final = struct.Struct(">cI")
_SMALL: Final = struct.Struct(">ci")
_LARGE: Final = struct.Struct(">cq")
_TIME: Final = struct.Struct(">Q")
_MOST: Final = 2**31 - 1
_METHOD_FRAME: Final = 1
_CACHED: Final = 4096


class Content:
    """A message as py-amqp's frame writer takes it.

    Args:
        body: the payload.
        properties: ``FIELDS``.
        headers: text, numbers, truth.

    Raises:
        struct.error: as of ``serialized``.
    """

    __slots__ = ("_properties", "body")

    def __init__(self, body: bytes, properties: Mapping[str, Any], headers: Mapping[str, Any]) -> None:
        self.body, self._properties = body, serialized(properties, headers)

    def _serialize_properties(self) -> bytes:
        return self._properties


def serialized(properties: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes:
    """Return the flags and fields of a content header.

    Args:
        properties: ``FIELDS``.
        headers: text, numbers, truth.

    Raises:
        struct.error: a field is longer, or a number larger, than AMQP can say.
    """
    return b"".join(
        (
            _FLAGS,
            _short(properties["content_type"]),
            _short(properties["content_encoding"]),
            _table(headers),
            struct.pack("B", properties["delivery_mode"]),
            _short.__wrapped__(properties["message_id"]),  # each is new
            _TIME.pack(properties["timestamp"]),
            _short(properties["type"]),
            _short(properties["app_id"]),
        )
    )


def publish(channel: Any, content: Content, exchange: str, routing_key: str) -> None:
    """Have a channel write a mandatory message.

    Args:
        channel: py-amqp's.
        content: the message.
        exchange: where it goes.
        routing_key: by which it is routed.

    Raises:
        struct.error: a field is longer than AMQP can say; nothing was written.
        AttributeError: the connection is gone.
    """
    method = _method(exchange, routing_key)
    channel.connection.frame_writer(_METHOD_FRAME, channel.channel_id, spec.Basic.Publish, method, content)


@lru_cache(_CACHED)
def _method(exchange: str, routing_key: str) -> bytes:
    mandatory, immediate = True, False
    method: bytes = dumps("Bssbb", (0, exchange, routing_key, mandatory, immediate))
    return method


@lru_cache(_CACHED)
def _short(text: str) -> bytes:
    data = text.encode()
    return struct.pack("B", len(data)) + data


def _table(headers: Mapping[str, Any]) -> bytes:
    parts = [part for name, value in headers.items() for part in (_short(name), _item(value))]
    data = b"".join(parts)
    return _LENGTH.pack(len(data)) + data


def _item(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        data: bytes = value.encode()
        return _TEXT.pack(b"S", len(data)) + data
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    return _SMALL.pack(b"I", value) if -_MOST <= value <= _MOST else _LARGE.pack(b"L", value)
