"""The real thing, doing what the model does: PostgreSQL, and the relay's and the consumer's own statements.

The broker alone stays the model's. Each step of a walk is done here by the code that does it in production,
and then the table is compared with the model's jobs. What time decides there is decided by the step here.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from model.hands import Hands
from model.leading import Leading
from model.state import BEGUN, DONE, OPEN, WORK, Slot

if TYPE_CHECKING:
    import psycopg
    from databases import Database

    from model.rules import Scope
    from model.state import Step, World

INSERT = """
INSERT INTO outbox.job (id, kind, key, payload, max_attempts) VALUES (%s, %s, nullif(%s, ''), '{}', %s)
"""
TABLE = """
SELECT j.id, j.state, j.version, j.pos, j.line, coalesce(j.key, ''),
       1 + (SELECT count(*) FROM outbox.transition t WHERE t.job_id = j.id)
FROM outbox.job j
"""


class Mirror:
    """One database that follows a walk.

    Args:
        database: a fresh one.
        scope: of the walk.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database, self._scope = database, scope
        self.ids = [uuid.uuid4() for _ in scope.keys]
        self._writers: dict[int, psycopg.Connection] = {}
        self._relays = [Leading(database, self.ids) for _ in range(scope.relays)]
        self._hands = Hands(database, self.ids)
        self._watcher = database.connect()

    def follow(self, step: Step, before: World, after: World) -> None:
        """Do a step, and compare."""
        if step.actor == "writer":
            self._write(step, after)
        elif step.actor.startswith("relay"):
            self._relay(int(step.actor.split()[1]) - 1, step, before, after)
        elif step.actor == "fault":
            self._fault(step, before, after)
        else:
            self._hands.do(step, before, after)
        self._compare(step, after)

    def close(self) -> None:
        """End every session."""
        for session in (*self._writers.values(), *self._relays, self._hands, self._watcher):
            session.close()

    def _write(self, step: Step, after: World) -> None:
        n, job = step.job, after.jobs[step.job]
        if n not in self._writers:
            self._writers[n] = self._database.connect(autocommit=False)
        writer = self._writers[n]
        if job.tx == BEGUN:
            writer.execute("SELECT pg_current_xact_id()")
        elif job.tx == OPEN or step.what == "adds and commits":
            writer.execute(INSERT, [self.ids[n], f"kind.{n}", job.key, self._scope.attempts])
        if job.tx == DONE:
            writer.commit()
        elif job.tx not in {BEGUN, OPEN}:
            writer.rollback()

    def _relay(self, n: int, step: Step, before: World, after: World) -> None:
        if step.what.startswith("ends the session of relay"):
            self._relays[int(step.what.split()[-1]) - 1].lose_session(self._watcher)
        else:
            self._relays[n].do(step, before, after, n)

    def _fault(self, step: Step, before: World, after: World) -> None:
        if step.what.startswith("relay"):
            self._relays[int(step.what.split()[1]) - 1].suffer(step)
        elif step.what == "the database restarts":
            self._restart(before)
        elif step.what == "its lease runs out, and is taken back":
            able = (n for n, me in enumerate(before.relays) if me.leads and me.session and not me.frozen)
            self._relays[next(able)].rescue(step.job)
        self._hands.let_go(after)

    def _restart(self, before: World) -> None:
        """End every session but those of the test itself."""
        for writer in self._writers.values():
            writer.rollback()
        for n, me in enumerate(before.relays):
            if me.leads and me.session:
                self._relays[n].lose_session(self._watcher)
        for slot in before.slots:
            if slot.phase == WORK:
                self._hands.roll_back(slot.ident[0])

    def _compare(self, step: Step, after: World) -> None:
        found: dict[Any, Any] = {row[0]: row[1:] for row in self._watcher.execute(TABLE)}
        expected = {
            self.ids[n]: (job.state, job.version, job.pos, job.line, job.key, job.version)
            for n, job in enumerate(after.jobs)
            if job.tx == DONE
        }
        assert found == expected, step
        working = {slot.ident[0] for slot in after.slots if slot == Slot(slot.ident, WORK)}
        assert self._hands.working == working, step
