"""What happened, as small frozen values. The core emits them; logs, metrics and tests observe.

An event carries plain numbers, names and ids: never a payload, a header's value, or a URL with its password.
Durations are seconds. This module knows no observer and no wording (``logs.py`` has the words).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


Observer = Callable[[Event], None]


# --- the relay ---


@dataclass(frozen=True, slots=True)
class RelayStarted(Event):
    """A relay process is up and stands for election."""

    broker: str
    grade: str


@dataclass(frozen=True, slots=True)
class LeadershipGained(Event):
    """This relay leads from now on."""

    term: int


@dataclass(frozen=True, slots=True)
class LeadershipGivenUp(Event):
    """This relay stopped leading; ``holder`` has the lock now, where that could be seen."""

    term: int
    reason: str
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class StandingBy(Event):
    """Another session holds the lock."""

    holder: str


@dataclass(frozen=True, slots=True)
class ForeignHolder(Event):
    """The lock is held by a session that is no relay of ours, or not ours to end."""

    holder: str
    silent: float


@dataclass(frozen=True, slots=True)
class LeaderDeposed(Event):
    """A leader that had been silent for ``silent`` seconds was ended, so that another can lead."""

    holder: str
    silent: float


@dataclass(frozen=True, slots=True)
class DatabaseLost(Event):
    """PostgreSQL does not answer; tried again in ``wait`` seconds."""

    reason: str
    wait: float


@dataclass(frozen=True, slots=True)
class StatementPostponed(Event):
    """A statement of the leader did not get through (a lock, a time-out, a full disk) and is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class BrokerConnected(Event):
    """The broker takes messages."""

    broker: str


@dataclass(frozen=True, slots=True)
class BrokerLost(Event):
    """The broker's connection ended; ``unknown`` messages were without a confirm and stay pending."""

    reason: str
    unknown: int
    wait: float


@dataclass(frozen=True, slots=True)
class BrokerBlocked(Event):
    """The broker asked publishers to pause (memory or disk alarm)."""

    reason: str


@dataclass(frozen=True, slots=True)
class BrokerUnblocked(Event):
    """The broker takes messages again."""


@dataclass(frozen=True, slots=True)
class BatchPublished(Event):
    """What one round settled, in messages. ``overtaken``: confirmed, but the job moved on before the mark."""

    confirmed: int = 0
    overtaken: int = 0
    nacked: int = 0
    unroutable: int = 0


@dataclass(frozen=True, slots=True)
class DestinationDown(Event):
    """A destination takes nothing; its jobs are parked until a probe gets through."""

    destination: str
    reason: str
    wait: float


@dataclass(frozen=True, slots=True)
class DestinationResting(Event):
    """The broker nacks what is sent to a destination, such as a full queue; its jobs stay pending."""

    destination: str
    wait: float


@dataclass(frozen=True, slots=True)
class DestinationUp(Event):
    """A destination takes messages again."""

    destination: str


@dataclass(frozen=True, slots=True)
class JobRefused(Event):
    """The broker refuses this one job; it was buried with the broker's words."""

    job_id: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobsStaged(Event):
    """Scheduled jobs that fell due were made pending."""

    count: int


@dataclass(frozen=True, slots=True)
class JobsParked(Event):
    """Jobs of a destination that is down were set aside."""

    count: int


@dataclass(frozen=True, slots=True)
class JobsUnparked(Event):
    """Parked jobs of a destination that came back were made pending."""

    count: int


@dataclass(frozen=True, slots=True)
class JobsRescued(Event):
    """Leases ran out: ``retried`` jobs wait for another try, ``buried`` had none left."""

    retried: int
    buried: int


@dataclass(frozen=True, slots=True)
class JobsRedelivered(Event):
    """Published, never finished, and gone from the queue: the broker lost them; they are sent again."""

    count: int


@dataclass(frozen=True, slots=True)
class JobsPruned(Event):
    """Finished jobs past their retention were deleted."""

    count: int


@dataclass(frozen=True, slots=True)
class SlotFired(Event):
    """A schedule's job was added for one of its slots (ISO 8601, UTC)."""

    schedule: str
    slot: str
    job_id: str


@dataclass(frozen=True, slots=True)
class SlotsRefused(Event):
    """The table of slots, or a right on it, is missing: schedules wait. Jobs are published all the same."""

    reason: str


# --- consumers ---


@dataclass(frozen=True, slots=True)
class ConsumerStarted(Event):
    """A consumer takes messages from ``queue``."""

    queue: str
    kinds: tuple[str, ...]
    broker: str


@dataclass(frozen=True, slots=True)
class ConsumerLost(Event):
    """A server that the consumer needs does not answer; no message is acked, no attempt charged meanwhile."""

    server: str
    reason: str
    wait: float


@dataclass(frozen=True, slots=True)
class ConsumerRefused(Event):
    """The database answers, and refuses what the consumer asks for; it waits as for one that is lost."""

    reason: str
    wait: float


@dataclass(frozen=True, slots=True)
class KindMoved(Event):
    """A kind was taken over from a queue; with a reason, its binding is left to be removed by hand."""

    kind: str
    queue: str
    taker: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JobHandled(Event):
    """A handler's job reached ``state`` (succeeded, scheduled, dead, cancelled) in ``seconds``."""

    job_id: str
    kind: str
    state: str
    version: int
    attempt: int
    seconds: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class MessageIgnored(Event):
    """A message had no effect, rightly: ``result`` is already_applied, superseded, missing or illegal."""

    job_id: str
    kind: str
    result: str


@dataclass(frozen=True, slots=True)
class JobMissing(Event):
    """A message speaks of a job that the consumer's database does not have; told beside MessageIgnored."""

    job_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class MessageKept(Event):
    """A message waits in memory to be looked at again in ``wait`` seconds; nothing was charged."""

    job_id: str
    reason: str
    wait: float


@dataclass(frozen=True, slots=True)
class MessageUnreadable(Event):
    """A message that cannot be decoded was buried with its raw bytes."""

    job_id: str
    reason: str
