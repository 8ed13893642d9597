"""Compares what was committed with what was delivered and done: the one judge of tests, demo and torture.

It knows nothing of relays and brokers. ``Account`` is what the application knows for itself, outside our
tables; ``judge`` holds deliveries and effects against it. Unknown outcomes are no failures. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

T = TypeVar("T")
Ids = set[Hashable]


class Written(NamedTuple):
    """A job whose COMMIT succeeded."""

    id: Hashable
    key: str | None
    """Jobs that share it must arrive in their order. None: no order was promised."""
    event: bool = False
    """Final for its sender when it is published: nobody sends it again if the broker then loses it."""


@dataclass
class Account:
    """What became of each job's transaction, as its application saw it."""

    committed: list[Written] = field(default_factory=list)
    """In the order of the commits, for those that share a key."""
    rolled_back: Ids = field(default_factory=set)
    ambiguous: Ids = field(default_factory=set)
    """The connection, or the application, ended during COMMIT: nobody knows."""
    events: Ids = field(default_factory=set)
    """Of the ambiguous ones, those that are events."""

    @property
    def ids(self) -> Ids:
        """Of what is committed."""
        return {written.id for written in self.committed}


class Seen(Protocol):
    """One message, as it came."""

    @property
    def id(self) -> Hashable:
        """The job's."""

    @property
    def version(self) -> int | None:
        """The job's; None for an event."""

    @property
    def flagged(self) -> bool:
        """Whether the relay said that it may have sent the same before."""

    @property
    def redelivered(self) -> bool:
        """Whether the broker says that it may have delivered it before: no second message, the same again."""


class Delivery(NamedTuple):
    """One message; ``at`` in seconds of ``time.monotonic``."""

    id: str
    version: int | None
    flagged: bool
    redelivered: bool
    at: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was promised, and what came: the shape of Jepsen's total-queue."""

    committed: int
    rolled_back: int
    ambiguous: int
    delivered: int
    """Different jobs that arrived."""
    messages: int
    """That the relays sent."""
    repeated: int
    """Deliveries that the broker repeated by itself."""
    recovered: int
    """Ambiguous, and delivered: they had been committed."""
    lost: Ids
    """Committed and never delivered."""
    ghosts: Ids
    """Delivered and never committed."""
    duplicates: Counter[Hashable]
    """How many messages too many."""
    unflagged: Ids
    """Of which one version was sent more than once without saying so."""
    disordered: set[str]
    """Keys whose jobs first arrived in another order than they were committed in."""
    wrong_effects: Ids
    """Committed, and not done exactly once; or done, and not committed."""
    forgotten: Ids
    """Events that a forgetful broker took, and lost: neither lost nor wrong, for nobody promised them."""

    @property
    def attempted(self) -> int:
        """All jobs, whatever became of their transaction."""
        return self.committed + self.rolled_back + self.ambiguous

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.lost or self.ghosts or self.unflagged or self.disordered or self.wrong_effects)

    def __str__(self) -> str:
        return (
            f"committed {self.committed}, rolled back {self.rolled_back}, ambiguous {self.ambiguous}, "
            f"messages {self.messages}, duplicates {self.duplicates.total()} "
            f"(not flagged {len(self.unflagged)}), lost {len(self.lost)}, ghosts {len(self.ghosts)}, "
            f"keys out of order {len(self.disordered)}, wrong effects {len(self.wrong_effects)}"
        )


def judge(
    account: Account,
    deliveries: Sequence[Seen],
    *,
    handled: Collection[Hashable] = (),
    effects: Mapping[Any, int] | None = None,
    forgetful: bool = False,
) -> Report:
    """Hold deliveries, and effects, against the account.

    Args:
        account: complete; its load has ended.
        deliveries: all of them, in the order of arrival.
        handled: what handlers were given besides: whoever listens at a broker of grade B may miss a copy.
        effects: how often each job was done. None: nobody did any.
        forgetful: the broker may lose what it took. What says that it was sent before is then no first
            arrival, and proves nothing about order; and events may be forgotten.

    Returns:
        The report. Deliveries that the broker repeats on its own are no duplicates of the relay's.
    """
    seen = {delivery.id for delivery in deliveries}.union(handled)
    wrong = set() if effects is None else _wrong(account, seen, effects)
    lost = account.ids - seen
    undone = {id_ for id_ in wrong if not (effects or {}).get(id_)}
    events = account.events | {written.id for written in account.committed if written.event}
    forgotten = (lost | undone) & events if forgetful else set()
    sent = [delivery for delivery in deliveries if not delivery.redelivered]
    return Report(
        committed=len(account.committed),
        rolled_back=len(account.rolled_back),
        ambiguous=len(account.ambiguous),
        delivered=len(seen),
        messages=len(sent),
        repeated=len(deliveries) - len(sent),
        recovered=len(seen & account.ambiguous),
        lost=lost - forgotten,
        ghosts=seen - account.ids - account.ambiguous,
        duplicates=_repeated(delivery.id for delivery in sent),
        unflagged={id_ for id_, _ in _repeated((d.id, d.version) for d in sent if not d.flagged)},
        disordered=_disordered(account, deliveries, forgetful=forgetful),
        wrong_effects=wrong - forgotten,
        forgotten=forgotten,
    )


def _repeated(sent: Iterable[T]) -> Counter[T]:
    counts = Counter(sent)
    counts.subtract(set(counts))
    return +counts


def _disordered(account: Account, deliveries: Sequence[Seen], *, forgetful: bool) -> set[str]:
    """A key is in order if its committed jobs, each at its first arrival, came as they were committed.

    What the broker repeats and nobody saw before tells nothing: a quorum queue may hand it out in any order
    (up to RabbitMQ 4.2; pull request 16008 of rabbitmq-server sorts it).
    """
    turn = {written.id: (n, written.key) for n, written in enumerate(account.committed)}
    first: dict[Hashable, Seen] = {}
    for delivery in deliveries:
        first.setdefault(delivery.id, delivery)
    arrived: dict[str, list[int]] = defaultdict(list)
    for id_, delivery in first.items():
        number, key = turn.get(id_, (0, None))
        if key is not None and not delivery.redelivered and not (forgetful and delivery.flagged):
            arrived[key].append(number)
    return {key for key, numbers in arrived.items() if numbers != sorted(numbers)}


def _wrong(account: Account, seen: Ids, effects: Mapping[Any, int]) -> Ids:
    must = account.ids | (account.ambiguous & seen)
    return {id_ for id_ in must | effects.keys() if effects.get(id_, 0) != (id_ in must)}
