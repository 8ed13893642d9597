"""Compares what was committed with what was delivered: the one judge of every fault test.

It knows nothing of relays and brokers. ``Account`` is what the application knows for itself, outside our
tables; ``judge`` holds the deliveries against it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from databases import Database
    from faults.collector import Delivery

T = TypeVar("T")


class Written(NamedTuple):
    """A job whose COMMIT succeeded."""

    id: UUID
    key: str | None


@dataclass
class Account:
    """What became of each job's transaction, as its application saw it."""

    committed: list[Written] = field(default_factory=list)
    """In the order of the commits, for those that share a key."""
    rolled_back: set[UUID] = field(default_factory=set)
    ambiguous: set[UUID] = field(default_factory=set)
    """The connection ended during COMMIT: nobody knows."""

    @property
    def ids(self) -> set[UUID]:
        """Of what is committed."""
        return {written.id for written in self.committed}


@dataclass(frozen=True)
class Report:
    """What was promised, and what came."""

    committed: int
    rolled_back: int
    ambiguous: int
    delivered: int
    lost: set[UUID]
    """Committed and never delivered."""
    ghosts: set[UUID]
    """Delivered and never committed."""
    duplicates: Counter[UUID]
    """How many messages too many."""
    unflagged: set[UUID]
    """Of which one version was sent more than once without saying so."""
    disordered: set[str]
    """Keys whose jobs first arrived in another order than they were committed in."""

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.lost or self.ghosts or self.unflagged or self.disordered)

    def __str__(self) -> str:
        return (
            f"committed {self.committed}, rolled back {self.rolled_back}, ambiguous {self.ambiguous}, "
            f"messages {self.delivered}, duplicates {self.duplicates.total()} "
            f"(not flagged {len(self.unflagged)}), lost {len(self.lost)}, ghosts {len(self.ghosts)}, "
            f"keys out of order {len(self.disordered)}"
        )


def judge(account: Account, deliveries: Sequence[Delivery]) -> Report:
    """Hold deliveries against the account.

    Args:
        account: complete; its load has ended.
        deliveries: all of them, in the order of arrival.

    Returns:
        The report. Deliveries that the broker repeats on its own are no duplicates of the relay's.
    """
    ids = {delivery.id for delivery in deliveries}
    sent = [delivery for delivery in deliveries if not delivery.redelivered]
    return Report(
        committed=len(account.committed),
        rolled_back=len(account.rolled_back),
        ambiguous=len(account.ambiguous),
        delivered=len(sent),
        lost=account.ids - ids,
        ghosts=ids - account.ids - account.ambiguous,
        duplicates=_repeated(delivery.id for delivery in sent),
        unflagged={id_ for id_, _ in _repeated((d.id, d.version) for d in sent if not d.flagged)},
        disordered=_disordered(account, deliveries),
    )


def unmarked_by_term(database: Database, deliveries: Sequence[Delivery]) -> dict[int, set[UUID]]:
    """Return, by term, the jobs that its leader sent and did not live to mark.

    Exact where a count at the moment of a kill is not: the term is in each message, and in each marked row.
    """
    marked = dict(database.execute("SELECT id, published_term FROM outbox.job WHERE state = 'published'"))
    unmarked: dict[int, set[UUID]] = defaultdict(set)
    for delivery in deliveries:
        if marked.get(delivery.id) != delivery.term:
            unmarked[delivery.term].add(delivery.id)
    return dict(unmarked)


def _repeated(sent: Iterable[T]) -> Counter[T]:
    counts = Counter(sent)
    counts.subtract(set(counts))
    return +counts


def _disordered(account: Account, deliveries: Sequence[Delivery]) -> set[str]:
    """A key is in order if its committed jobs, each at its first arrival, came as they were committed."""
    place = {written.id: n for n, written in enumerate(account.committed)}
    arrived: dict[str, list[int]] = defaultdict(list)
    for id_, key in {delivery.id: delivery.key for delivery in deliveries}.items():
        if key is not None and id_ in place:
            arrived[key].append(place[id_])
    return {key for key, places in arrived.items() if places != sorted(places)}
