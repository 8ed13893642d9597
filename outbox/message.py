"""The message on the wire, a public contract: what the relay writes, what a consumer reads from any sender.

Does not know kombu, and does not decode bodies: `payload` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from outbox.names import MAX_KEY, RESERVED, check_headers, check_kind, check_name
from outbox.payload import is_json

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION: Final = "x-outbox-version"
ATTEMPT: Final = "x-outbox-attempt"
TERM: Final = "x-outbox-term"
KEY: Final = "x-outbox-key"
POSSIBLE_DUPLICATE: Final = "x-outbox-possible-duplicate"

APP_ID: Final = "outbox-relay"
PERSISTENT: Final = 2
OCTETS: Final = "application/octet-stream"  # what a body without a content type is

ADOPTION: Final = UUID("5087d967-c340-4d69-8180-9992e4447ccb")
"""Namespace of the ids of adopted messages. It never changes: what was adopted before must be known again."""

_MAX_COUNT = 2**63 - 1  # of PostgreSQL's bigint


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message in the words of the contract, whoever sent it.

    Args:
        body: The payload's bytes.
        message_id: The job's id, or what another sender calls its message; None if there is none.
        kind: Native property `type`; None if there is none.
        content_type: Media type of the body.
        content_encoding: Native property of that name.
        timestamp: When it was made, in whole seconds since 1970.
        headers: The application's headers, without those of this package.
    """

    body: bytes
    message_id: str | None
    kind: str | None
    content_type: str
    content_encoding: str | None
    timestamp: int | None
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming(Message):
    """A message as a consumer understood it.

    Args:
        job_id: Id of the job's row; None for an event or another sender's message, which are adopted.
        version: Version of the row that the message speaks of; None where there is no row.
        attempt: Number of the attempt that this delivery is for.
        term: Term of the relay that sent it.
        key: Ordering key.
        possible_duplicate: Whether the sender knew that it may have sent the same before.
        problem: Why it cannot be handled, in one line without any of its content; None if it can.
    """

    job_id: UUID | None
    version: int | None
    attempt: int | None
    term: int | None
    key: str | None
    possible_duplicate: bool
    problem: str | None


def outgoing(
    *,
    id: UUID,  # noqa: A002 # the column's name
    kind: str,
    key: str | None,
    content_type: str,
    headers: Mapping[str, Any] | None,
    version: int | None,
    attempt: int,
    term: int,
    possible_duplicate: bool,
    created_at: datetime,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the native properties and the headers of a row's message.

    Args:
        id: The job's id.
        kind: The job's kind.
        key: The job's ordering key.
        content_type: Media type of the payload.
        headers: The application's headers.
        version: The job's version; None for an event, which has no row that a consumer could change.
        attempt: Number of the attempt that this message asks for; not sent with an event.
        term: The relay's term.
        possible_duplicate: Whether the same may have been sent before.
        created_at: When the job was added, with its time zone.
    """
    properties = {
        "message_id": str(id),
        "type": kind,
        "content_type": content_type,
        "content_encoding": "utf-8" if is_json(content_type) else "binary",
        "timestamp": int(created_at.timestamp()),
        "delivery_mode": PERSISTENT,
        "app_id": APP_ID,
    }
    sent: dict[str, Any] = _as_text(headers) if headers else {}
    if version is not None:
        sent[VERSION] = version
        sent[ATTEMPT] = attempt
    sent[TERM] = term
    if key is not None:
        sent[KEY] = key
    if possible_duplicate:
        sent[POSSIBLE_DUPLICATE] = True
    return properties, sent


def incoming(body: object, properties: object, headers: object) -> Incoming:
    """Read a message of any sender. Never raises: what is wrong is told by `problem`.

    Args:
        body: The bytes that came.
        properties: The native properties, `content_type` and `content_encoding` among them.
        headers: The headers; values may be of any AMQP type.
    """
    native, custom = _Fields(properties), _Fields(headers)
    octets, strange = _octets(body)
    version = custom.read(VERSION, _version)
    return Incoming(
        body=octets,
        message_id=native.need("message_id", _message_id),
        kind=native.need("type", check_kind),
        content_type=native.glean("content_type", _native) or OCTETS,
        content_encoding=native.glean("content_encoding", _native),
        timestamp=native.glean("timestamp", _seconds),
        headers=_carried(custom.fields),
        job_id=None if version is None else native.read("message_id", _uuid),
        version=version,
        attempt=custom.glean(ATTEMPT, _count),
        term=custom.glean(TERM, _count),
        key=custom.read(KEY, _key),
        possible_duplicate=custom.fields.get(POSSIBLE_DUPLICATE) in (True, "true", "True", "1"),
        problem=native.problem or custom.problem or strange,
    )


def adopted_id(message_id: str, queue: str) -> UUID:
    """Return the id under which a queue adopts a message: always the same, so that a duplicate is seen.

    Raises:
        ValueError: One of the two is empty, over 255 bytes, no Unicode text, or holds control characters.
        TypeError: One of the two is not a str.
    """
    # Neither holds a line feed, so that no two pairs are written alike.
    return uuid5(ADOPTION, f"{check_name(message_id, 'message_id')}\n{check_name(queue, 'queue')}")


class _Fields:
    """Properties or headers as they came, and the first thing that is wrong with them."""

    def __init__(self, fields: object) -> None:
        self.fields: Mapping[Any, Any] = fields if isinstance(fields, Mapping) else {}
        self.problem: str | None = None

    def need(self, name: str, reader: Callable[[Any], Any]) -> Any:
        """Read what must be there."""
        if self.fields.get(name) is None:
            self.problem = self.problem or f"{name} is missing"
        return self.read(name, reader)

    def read(self, name: str, reader: Callable[[Any], Any]) -> Any:
        """Read what may be missing, but not be wrong."""
        value = self.fields.get(name)
        try:
            return None if value is None else reader(value)
        except (TypeError, ValueError) as error:
            self.problem = self.problem or str(error)
            return None

    def glean(self, name: str, reader: Callable[[Any], Any]) -> Any:
        """Read what nothing depends on: as good as missing when it is wrong."""
        value = self.fields.get(name)
        try:
            return None if value is None else reader(value)
        except (TypeError, ValueError, OverflowError):
            return None


def _message_id(value: object) -> str:
    return check_name(value, "message_id")


def _native(value: object) -> str:
    return check_name(value, "the property")


def _key(value: object) -> str:
    return check_name(value, KEY, MAX_KEY)


def _uuid(value: str) -> UUID:
    try:
        return UUID(value)
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"message_id is no UUID, although {VERSION} says that it is a job's") from None


def _version(value: object) -> int:
    version = _count(value)
    if version == 0:
        raise ValueError(f"{VERSION} is 0, versions begin at 1")
    return version


def _count(value: object) -> int:
    """Read a whole number; gateways between brokers turn numbers into text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_COUNT)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{VERSION} is no whole number")
    return value


def _seconds(value: object) -> int:
    if isinstance(value, datetime):  # py-amqp's have no zone and are meant in UTC
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_COUNT:
        raise ValueError("the timestamp is no time")
    return int(value)


def _octets(body: object) -> tuple[bytes, str | None]:
    """Return the body's bytes; a few transports hand over text."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body), None
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass"), None
    return b"", f"the body is {type(body).__name__}, not bytes"


def _carried(headers: Mapping[Any, Any]) -> dict[str, str]:
    """Return the headers that a job carries on: text or what can be told as text; none of ours."""
    carried: dict[str, str] = {}
    for name, value in headers.items():
        if not (isinstance(name, str) and name.startswith(RESERVED)):
            carried |= _carriable(name, value)
    return carried


def _carriable(name: Any, value: Any) -> dict[str, str]:
    try:
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, bool | int | float | Decimal):
            value = str(value).lower() if isinstance(value, bool) else str(value)
        elif isinstance(value, datetime):
            value = value.isoformat()
        return check_headers({name: value})
    except (TypeError, ValueError):
        return {}


def _as_text(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return headers as text, without ours: a row added in SQL holds any JSON, and must forge no version."""
    return {
        name: value if type(value) is str else json.dumps(value)
        for name, value in headers.items()
        if not name.startswith(RESERVED)
    }
