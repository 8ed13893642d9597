"""A job as the relay carries it from the table to the broker: one pending version of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

COLUMNS: Final = (
    "id, version, pos, kind, key, payload, content_type, headers, exchange, routing_key, "
    "attempt, sends, tracked, created_at"
)
"""What a fetch reads, in the order of ``Row``'s fields."""


def prefixed(alias: str) -> str:
    """Return ``COLUMNS`` of one relation of a statement."""
    return ", ".join(f"{alias}.{name.strip()}" for name in COLUMNS.split(","))


class Row(NamedTuple):
    """One pending version of one job. The relay's memory is keyed by ``ident``, never by the id alone."""

    id: uuid.UUID
    version: int
    pos: int
    kind: str
    key: str | None
    payload: bytes
    content_type: str
    headers: dict[str, Any]
    exchange: str | None
    routing_key: str | None
    attempt: int
    sends: int
    tracked: bool
    created_at: datetime

    @property
    def ident(self) -> tuple[uuid.UUID, int]:
        """(id, version): a mark by id alone strands jobs that failed and were staged meanwhile."""
        return self.id, self.version

    @property
    def destination(self) -> str:
        """What goes down and comes up together; the same expression as the index ``job_parked``."""
        exchange = "*" if self.exchange is None else self.exchange
        routing_key = "*" if self.routing_key is None else self.routing_key
        return f"{exchange}\x1f{routing_key}\x1f{self.kind}"


def readable(destination: str) -> str:
    """Return a destination as people read it: ``order.paid (exchange e, routing key r)``."""
    exchange, routing_key, kind = destination.split("\x1f", 2)
    named = [f"exchange {exchange!r}"] if exchange != "*" else []
    named += [f"routing key {routing_key!r}"] if routing_key != "*" else []
    return f"{kind} ({', '.join(named)})" if named else kind
