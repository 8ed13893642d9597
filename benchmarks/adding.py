"""What `outbox.add` costs its caller, beside `session.add` of a model of one's own, checked as strictly.

Both write the same: an id of version 7, kind, key and a payload of JSON. Neither talks to a database.
"""

from __future__ import annotations

import gc
import json
import time
import uuid  # noqa: TC003 - SQLAlchemy reads the annotations at run time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import outbox
from outbox.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET: Final = 1.1
"""Times the cost of a model of one's own."""

LARGEST: Final = 131_072
ROWS: Final = 2_000
ROUNDS: Final = 15
PAYLOAD: Final = {"order_id": 7, "total": "129.90", "customer": "c-1", "lines": [{"sku": "a", "n": 2}, 3]}


class Base(DeclarativeBase):
    """The application's own."""


class Message(Base):
    """What people write who have no library: a table of messages to be sent."""

    __tablename__ = "message"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key: Mapped[str | None]
    payload: Mapped[bytes]
    content_type: Mapped[str] = mapped_column(Text)
    headers: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str]
    max_attempts: Mapped[int]
    tracked: Mapped[bool]


def checked(text: str, longest: int) -> str:
    """Refuse what the broker or the database would refuse later."""
    if not (0 < len(text.encode()) <= longest and text.isprintable()):
        raise ValueError(text)
    return text


def own(session: Session) -> None:
    """Check what would fail later, and add a row."""
    kind, key = checked("order.paid", 255), checked("order:7", 1024)
    if "*" in kind or "#" in kind:
        raise ValueError(kind)
    text = json.dumps(PAYLOAD, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    body = text.encode()
    if len(body) > LARGEST or "\\u0000" in text:
        raise ValueError(text)
    session.add(
        Message(
            id=uuid7(),
            kind=kind,
            key=key,
            payload=body,
            content_type="application/json",
            headers={},
            state="pending",
            max_attempts=20,
            tracked=True,
        )
    )


def ours(session: Session) -> None:
    """The same with the library."""
    outbox.add(session, "order.paid", PAYLOAD, key="order:7")


def measure() -> bool:
    """Print what each costs and the ratio; return whether it is within the target."""
    rounds = [(_cost(own), _cost(ours)) for _ in range(ROUNDS)]  # in turn: a busy machine is busy for both
    theirs, mine = map(min, zip(*rounds, strict=True))
    print(f"session.add of a model of one's own: {theirs * 1e6:.1f} µs")
    print(f"outbox.add: {mine * 1e6:.1f} µs, {mine / theirs:.2f} times as much (target {TARGET})")
    return mine / theirs <= TARGET


def _cost(add: Callable[[Session], None]) -> float:
    """Return the seconds of processor time that one row takes."""
    with Session(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")) as session:
        gc.collect()
        began = time.process_time()
        for _ in range(ROWS):
            add(session)
        return (time.process_time() - began) / ROWS
