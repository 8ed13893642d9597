"""Puts a job into a message of kombu's or py-amqp's, and tells which jobs fit into none.

A job that cannot be written at all (a routing key or the name of a header of 300 bytes, both possible in SQL)
is refused by itself: it must neither end the process nor the connection that others use.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from amqp.exceptions import FrameSyntaxError

from outbox import message
from outbox.errors import OutboxError
from outbox.names import MAX_NAME

if TYPE_CHECKING:
    from relay.routes import Way
    from relay.row import Row

UNWRITABLE: Final = (struct.error, FrameSyntaxError, UnicodeError)
"""What py-amqp raises, before it writes anything, for properties that do not fit into AMQP's fields."""


class Unsendable(OutboxError):
    """This job fits into no message."""


def unfit(row: Row, way: Way, error: BaseException) -> str:
    """Return why no message can hold a job: its field that is too long, or what the library said."""
    fields = {
        "exchange": way.exchange,
        "routing key": way.routing_key,
        "kind": row.kind,
        "content type": row.content_type,
    } | {f"name of the header {name[:20]}…": name for name in row.headers}
    for what, text in fields.items():
        size = len(text.encode(errors="replace"))
        if size > MAX_NAME:
            return f"no message can hold it: its {what} has {size} bytes, and {MAX_NAME} are the most"
    return f"no message can hold it: {error}"


def filled(row: Row, term: int, *, duplicate: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return properties and headers of a job's message. An event has no version: its takers have own rows.

    Args:
        row: the job.
        term: of the relay that sends it.
        duplicate: whether it may have been sent before.

    Raises:
        Unsendable: no message can hold it.
    """
    try:
        return message.outgoing(
            id=row.id,
            kind=row.kind,
            key=row.key,
            content_type=row.content_type,
            headers=row.headers,
            version=row.version if row.tracked else None,
            attempt=row.attempt,
            term=term,
            possible_duplicate=duplicate,
            created_at=row.created_at,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise Unsendable(f"{type(error).__name__}: {error}") from None


def prepare(channel: Any, row: Row, term: int, *, duplicate: bool) -> Any:
    """Return a job's message as ``channel``, one of kombu's, takes it.

    Raises:
        Unsendable: no message can hold it.
    """
    properties, headers = filled(row, term, duplicate=duplicate)
    try:
        return channel.prepare_message(
            row.payload,
            content_type=properties.pop("content_type"),
            content_encoding=properties.pop("content_encoding"),
            headers=headers,
            properties=properties,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise Unsendable(f"{type(error).__name__}: {error}") from None
