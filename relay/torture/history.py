"""What the processes wrote down outside our tables, read along while they write."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from relay.theatre import wiretap
from relay.theatre.journal import Lines
from relay.theatre.judge import Account, Delivery, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DELIVERED = "delivered"
WRITTEN = "written-"
HANDLED = "handled-"

Jobs = list[Written]


class History:
    """The journals of one torture.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[Path, Lines] = {}
        self._open: dict[str, Jobs] = {}
        self._ids: dict[str, str] = {}
        self._account = Account()
        self.deliveries: list[Delivery] = []
        """As the wiretap saw them."""
        self.handled: set[str] = set()
        """The jobs that handlers were given."""
        self.seen: set[str] = set()
        """The jobs that arrived, there or here."""
        self.runs = 0
        """How often a handler was called."""
        self.called_at = 0.0
        """When we last read that one was."""

    @property
    def account(self) -> Account:
        """What became of the jobs. What is neither committed nor rolled back yet counts as ambiguous."""
        known, waiting = self._account, [job for jobs in self._open.values() for job in jobs]
        ambiguous = known.ambiguous.union(job.id for job in waiting)
        events = known.events.union(job.id for job in waiting if job.event)
        return Account(known.committed, known.rolled_back, ambiguous, events)

    @property
    def missing(self) -> set[object]:
        """What is committed and has not arrived yet."""
        return self._account.ids - self.seen

    def look(self) -> None:
        """Read what was added since the last look; last what was written first, so that all is known."""
        tokens = [line.split()[0] for line in self._new(HANDLED)]
        arrived = list(wiretap.deliveries(self._of(self._folder / DELIVERED)))
        for line in self._new(WRITTEN):
            self._written(line.split())
        self.runs += len(tokens)
        self.called_at = time.monotonic() if tokens else self.called_at
        self.handled.update(map(self.id_of, tokens))
        self.deliveries += arrived
        self.seen |= self.handled.union(delivery.id for delivery in arrived)

    def effects(self, tokens: Iterable[str]) -> Counter[str]:
        """Return how often each job was done; ``tokens`` are the effects."""
        return Counter(map(self.id_of, tokens))

    def id_of(self, token: str) -> str:
        """Return the job that a handler knows by ``token``; the token itself if nobody wrote of it."""
        return self._ids.get(token, token)

    def _of(self, file: Path) -> Lines:
        return self._lines.setdefault(file, Lines(file))

    def _new(self, prefix: str) -> Iterator[str]:
        for file in sorted(self._folder.glob(f"{prefix}*")):
            yield from self._of(file).new()

    def _written(self, words: list[str]) -> None:
        what, name, *rest = words
        if what == "attempt":
            self._open[name] = [self._job(word) for word in rest[:-1]]
            return
        jobs = self._open.pop(name)
        if what == "committed":
            self._account.committed += jobs
        elif what == "rolled":
            self._account.rolled_back.update(job.id for job in jobs)
        else:
            self._account.ambiguous.update(job.id for job in jobs)
            self._account.events.update(job.id for job in jobs if job.event)

    def _job(self, word: str) -> Written:
        id_, token, key, what = word.split(":")
        self._ids[token] = id_
        return Written(id_, None if key == "-" else key, event=what == "event")
