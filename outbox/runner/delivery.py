"""One message in a consumer's hands, with what is remembered of it, and what may become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outbox.ids import uuid7
from outbox.message import adopted_id, incoming

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from outbox.leased import Lease
    from outbox.message import Incoming
    from outbox.runner.settling import Decision


@dataclass(frozen=True, slots=True)
class Ack:
    """The database has what the message was for: the broker may forget it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing was proven: hold the message and look again.

    Args:
        seconds: How long to wait.
        reason: Why, in words.
        database_lost: Whether to look for the database before anything else.
        refused: Whether it is there, and refuses what we ask for.
    """

    seconds: float
    reason: str
    database_lost: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Alone:
    """It came back and its work is not done: run it while no other handler of this process is at work."""


Verdict = Ack | Keep | Alone


@dataclass(slots=True, eq=False)
class Delivery:
    """A message, and what this process remembers of it until it is acked.

    Args:
        message: As it was understood.
        queue: Where it came from.
        redelivered: Whether the broker gave it out before: that consumer may have died of it.
        tag: What the broker's library needs to ack it.
        generation: Which connection it came on; on another one its tag means another message.
        id: Of its row: the job's own, or the one under which it is adopted.
        strikes: Faults of the surroundings in a row.
        charged: Whether the attempt was counted before the handler ran.
        decision: What was decided and could not be written yet.
        lease: Held by a leased handler; the message is acked then, and the lease is what counts.
        acked: Whether the broker has been told, or need not be.
    """

    message: Incoming
    queue: str
    redelivered: bool = False
    tag: Any = None
    generation: int = 0
    id: UUID = field(init=False)
    strikes: int = 0
    charged: bool = False
    decision: Decision | None = None
    lease: Lease[Any] | None = None
    acked: bool = False

    def __post_init__(self) -> None:
        self.id = self.message.job_id or _adopted(self.message.message_id, self.queue)

    @property
    def kind(self) -> str:
        """For logs: the kind, or a word where the message has none."""
        return self.message.kind or "unknown"


def delivery(
    *,
    body: object,
    properties: Mapping[str, Any],
    headers: Mapping[str, Any],
    queue: str,
    routing_key: str,
    redelivered: bool,
    tag: Any = None,
    generation: int = 0,
) -> Delivery:
    """Understand a message of any sender; one without a type has the kind that its routing key names."""
    if properties.get("type") is None and routing_key:
        properties = {**properties, "type": routing_key}
    message = incoming(body, properties, headers)
    return Delivery(message, queue, redelivered=redelivered, tag=tag, generation=generation)


def _adopted(message_id: str | None, queue: str) -> UUID:
    """Return the id for a message that has no row yet; without a message id no duplicate can be known."""
    return uuid7() if message_id is None else adopted_id(message_id, queue)
