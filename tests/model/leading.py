"""One relay of the mirror: the real election, term, reader, window, ledger and chores; no broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers import eventually
from relays import election, settings

from model.reading import reader
from model.rules import Rules, Scope, Setting
from model.state import PARKED, PUBLISHED
from outbox.errors import LeadershipLost, Unreachable
from relay import chores
from relay.ledger import Ledger
from relay.reader import Reader
from relay.window import Window

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    import psycopg
    from databases import Database

    from model.state import Ident, Step, World
    from relay.row import Row
    from relay.term import Term


LONG_AGO = "UPDATE outbox.job SET {} = clock_timestamp() - interval '1 day' WHERE id = %(id)s"
"""The row for which it has been time for longest is the first that is taken."""


class Leading:
    """A relay that may lead.

    Args:
        database: whose jobs.
        ids: of the jobs, by number.
    """

    def __init__(self, database: Database, ids: list[uuid.UUID]) -> None:
        # The model's time stands still, ours does not: a busy machine must not end a term in between.
        self._settings, self._ids = settings(database, stale=600.0), ids
        self._term: Term | None = None

    @property
    def term(self) -> Term:
        """The reign, as this relay believes."""
        assert self._term is not None
        return self._term

    def do(self, step: Step, before: World, after: World, n: int) -> None:
        """Do one of the relay's own steps."""
        match step.what.split(",")[0]:
            case "takes lock and term":
                self._win()
            case "reads":
                self._read(before, n)
            case "sends it":
                self._send(before.relays[n].fenced[0])
            case "marks it":
                self._mark(step.job, published=after.jobs[step.job].state == PUBLISHED)
            case what if what.startswith("hears"):
                self._hear(what, step.job, parked=after.jobs[step.job].state == PARKED)
            case what:
                self._ask(what, step.job, after.relays[n].plan)

    def suffer(self, step: Step) -> None:
        """Suffer a fault that is this relay's alone."""
        what = step.what.split(maxsplit=2)[2]
        if what == "is killed":
            self.close()
        elif what.startswith("is told to stop"):
            self.term.release()
        elif what == "loses the broker":
            self._window.drop()
            self._reader.start_over()

    def lose_session(self, watcher: psycopg.Connection) -> None:
        """Have the server end this relay's session."""
        watcher.execute("SELECT pg_terminate_backend(%s, 5000)", [self.term.backend.pid])

    def rescue(self, n: int) -> None:
        """Take a lease back, as if it had run out."""
        self._rows(LONG_AGO.format("lease_until"), n)
        assert len(self._rows(chores.RESCUE, n)) == 1

    def close(self) -> None:
        """End the session, if there is one."""
        if self._term is not None:
            self._term.backend.close()
            self._term = None

    def _win(self) -> None:
        candidate = election(self._settings)
        # The session of a killed leader lives on for a moment.
        self._term = eventually(candidate.campaign)
        self._window, self._tag = Window(1000, 10**9), 0
        self._rowed: dict[Ident, Row] = {}
        self._ledger = Ledger(self._term)
        self._reader = Reader(self._ledger, self._term, self._settings)

    def _lose(self) -> None:
        with pytest.raises((LeadershipLost, Unreachable)):
            self.term.fence()
        self.close()

    def _read(self, before: World, n: int) -> None:
        """Read from the low water on: a model that does not care for positions finds all that may go."""
        self._reader.start_over()
        reads = [self._reader.fetch(self._window)]
        while self._reader.catching_up:
            reads.append(self._reader.fetch(self._window))
        reads.append(self._reader.fetch(self._window))
        rows = [self._known(row) for read in reads for row in read]
        setting = Setting(Rules(), Scope("all that may go", window=1000))
        ((_, world),) = list(reader(before, setting, n))
        assert set(rows) == set(world.relays[n].plan)

    def _send(self, ident: Ident) -> None:
        self._tag += 1
        self._window.fly(self._tag, self._rowed[ident])

    def _hear(self, what: str, n: int, *, parked: bool) -> None:
        tag, row = next((tag, row) for tag, row in self._window.flights() if row.id == self._ids[n])
        if what == "hears a nack":
            self._window.nacked(tag, multiple=False)
        else:
            if what == "hears that it was returned":
                self._window.returned(str(row.id), "nothing is bound")
            self._window.acked(tag, multiple=False)
        returned = [row for row, _ in self._window.take().unroutable]
        if returned:
            assert self._ledger.park(returned, "nothing is bound") == parked

    def _mark(self, n: int, *, published: bool) -> None:
        rows = [row for row in self._window.unmarked() if row.id == self._ids[n]][:1]
        marked, locked = self._ledger.mark(rows)
        assert (marked, locked) == ({self._ids[n]} if published else set(), set())
        self._window.forget(rows)

    def _ask(self, what: str, n: int, plan: tuple[Ident, ...]) -> None:
        match what:
            case "fences":
                self.term.fence()
            case "finds its term over":
                self._lose()
            case "stages it":
                self._rows(LONG_AGO.format("available_at"), n)
                self._staged(self._rows(chores.STAGE, n))
            case "stages it as a probe":
                self._probe(n, plan)
            case "redelivers it":
                self._staged(self._rows(chores.REDELIVER, n))
            case "takes its lease back":
                self.rescue(n)
            case what if what != "wakes":
                pytest.fail(f"nobody does this in the mirror: {what}")

    def _staged(self, found: Sequence[tuple[Any, ...]]) -> None:
        assert len(found) == 1
        self._ledger.note((key, line) for key, line in found)

    def _probe(self, n: int, plan: tuple[Ident, ...]) -> None:
        row = self._ledger.stage_probe(f"*\x1f*\x1fkind.{n}", self._window.keys())
        assert row is not None
        assert (self._known(row),) == plan

    def _known(self, row: Row) -> Ident:
        ident = (self._ids.index(row.id), row.version)
        self._rowed[ident] = row
        return ident

    def _rows(self, sql: str, n: int) -> list[tuple[object, ...]]:
        named = {"token": self.term.token, "rows": 1, "id": self._ids[n], "kind": f"kind.{n}", "after": 0.0}
        return self.term.backend.rows(sql, named)
