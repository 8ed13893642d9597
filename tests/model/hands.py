"""Consumers and operators of the mirror: the runner's own claim, look and moves, each in its transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.state import RUNS, WORK
from outbox.message import outgoing
from outbox.runner.claims import Row, claim, look
from outbox.runner.delivery import delivery
from outbox.states import State
from outbox.transitions import Applied, due_in, move

if TYPE_CHECKING:
    import uuid

    from databases import Database
    from sqlalchemy import Connection

    from model.state import Ident, Step, World
    from outbox.runner.delivery import Delivery

BY = "the model"
LEASE = {"lease_until": due_in(3600.0), "lease_token": "00000000-0000-0000-0000-000000000001"}
ORDERS = {"cancels it": State.CANCELLED, "buries it": State.DEAD, "retries it": State.SCHEDULED}


class Hands:
    """Whoever moves jobs and is no relay.

    Args:
        database: whose jobs.
        ids: of the jobs, by number.
    """

    def __init__(self, database: Database, ids: list[uuid.UUID]) -> None:
        self._engine, self._ids = database.engine, ids
        self._works: dict[int, tuple[Connection, Row]] = {}

    @property
    def working(self) -> set[int]:
        """Jobs in whose handler's transaction somebody is."""
        return set(self._works)

    def do(self, step: Step, before: World, after: World) -> None:
        """Do a step of a consumer or an operator."""
        what, n = step.what.removesuffix(" and acks").removesuffix(","), step.job
        if what in ORDERS:
            self._order(n, before.jobs[n].version, ORDERS[what])
        elif what in {"claims it and works", "commits its lease", "finds its message stale"}:
            self._begin(what, n, before, after)
        elif what.startswith("commits"):
            self._commit(what, n, before, after)
        elif what not in {"acks", "takes its message", "binds its queue", "unbinds the queue"}:
            pytest.fail(f"nobody does this in the mirror: {what}")

    def let_go(self, after: World) -> None:
        """End the transactions of consumers that have died."""
        for n in self.working - {slot.ident[0] for slot in after.slots if slot.phase == WORK}:
            self.roll_back(n)

    def roll_back(self, n: int) -> None:
        """End a handler's transaction, with all that it did."""
        connection, _ = self._works.pop(n)
        connection.close()

    def close(self) -> None:
        """End all of them."""
        for n in self.working:
            self.roll_back(n)

    def _begin(self, what: str, n: int, before: World, after: World) -> None:
        """Claim, and look: what the model finds, the runner must find."""
        connection = self._engine.connect()
        came = self._delivery(n, _came(n, before, after)[1])
        assert claim(connection, came, BY)
        found = look(connection, came, None)
        assert isinstance(found, Row) == (what != "finds its message stale"), found
        if what == "claims it and works":
            assert isinstance(found, Row)
            self._works[n] = connection, found
            return
        if isinstance(found, Row):
            assert isinstance(found.move(connection, State.RUNNING, 1, LEASE), Applied)
            connection.commit()
        connection.close()

    def _commit(self, what: str, n: int, before: World, after: World) -> None:
        moves = before.jobs[n].version != after.jobs[n].version
        if n not in self._works and (leased := _lease(n, before, after)) is not None:
            with self._engine.begin() as connection:
                state = State(after.jobs[n].state) if moves else State.SUCCEEDED
                values = {"available_at": due_in(0.0)} if state is State.SCHEDULED else {}
                result = move(connection, self._ids[n], leased[1], state, values)
            assert isinstance(result, Applied) == moves, result
            return
        if n not in self._works:  # all of the consumer's steps are one
            self._begin("claims it and works", n, before, after)
        connection, held = self._works.pop(n)
        if what == "commits success":
            result = held.succeed(connection, 1)
        else:
            connection.rollback()
            state = State.DEAD if held.attempt + 1 >= held.max_attempts else State.SCHEDULED
            values = {"available_at": due_in(0.0)} if state is State.SCHEDULED else {}
            result = held.move(connection, state, 1, values)
        assert isinstance(result, Applied) == moves, result
        if moves:
            connection.commit()
        connection.close()

    def _order(self, n: int, version: int, to: State) -> None:
        values = {"available_at": due_in(0.0)} if to is State.SCHEDULED else {}
        with self._engine.begin() as connection:
            assert move(connection, self._ids[n], version, to, values) == Applied(version + 1)

    def _delivery(self, n: int, version: int) -> Delivery:
        with self._engine.connect() as connection:
            created = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        properties, headers = outgoing(
            id=self._ids[n],
            kind=f"kind.{n}",
            key=None,
            content_type="application/json",
            headers={},
            version=version,
            attempt=1,
            term=1,
            possible_duplicate=False,
            created_at=created,
        )
        return delivery(
            body=b"{}", properties=properties, headers=headers, queue="q", routing_key="", redelivered=False
        )


def _came(n: int, before: World, after: World) -> Ident:
    """Return which message was taken up in a step: it is in no queue and no prefetch any more."""
    had = [*before.queue, *(slot.ident for slot in before.slots if slot.phase not in {RUNS, WORK})]
    for ident in [*after.queue, *(slot.ident for slot in after.slots if slot.phase not in {RUNS, WORK})]:
        if ident in had:
            had.remove(ident)
    return next(ident for ident in had if ident[0] == n)


def _lease(n: int, before: World, after: World) -> Ident | None:
    """Return whose lease ended in a step."""
    return next(
        (
            slot.ident
            for slot in before.slots
            if slot.phase == RUNS and slot.ident[0] == n and slot not in after.slots
        ),
        None,
    )
