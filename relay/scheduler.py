"""Fires schedules for the leader, a few slots at a time, on the lock's session.

Nothing rests on there being one leader: the slot's primary key alone makes one of many. That only one looks
saves work. Which slots are due is decided in ``outbox/schedules.py``, by the database's clock; this process's
clock says only when to look again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from outbox import events, slots
from outbox.errors import WrongEnvironment
from relay.backend import Postponed, label
from relay.term import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from outbox.events import Observer
    from outbox.schedules import Schedule
    from relay.backend import Backend

SLICE: Final = 0.05
"""Seconds of firing in a row: after a long outage there may be a thousand slots to make good."""
AT_MOST: Final = 30.0
"""Seconds between two looks at most: the database's clock may have been set."""
AGAIN: Final = 1.0
UNABLE: Final = 60.0


def spelled(statement: str) -> str:
    """Return a statement with ``:named`` parameters as psycopg wants them."""
    return re.sub(r":(\w+)", r"%(\1)s", statement)


STANDING: Final = spelled(slots.STANDING)
ENROL: Final = spelled(slots.ENROL)
FIRE: Final = spelled(slots.FIRE)
PRUNE: Final = spelled(slots.PRUNE)


class Scheduler:
    """Fires what is due.

    Args:
        backend: the session.
        schedules: of which no two have one name.
        observe: gets the events.
    """

    def __init__(self, backend: Backend, schedules: Sequence[Schedule], observe: Observer) -> None:
        self._backend, self._observe = backend, observe
        self._schedules = {each.name: each for each in schedules}
        self._look_at = 0.0

    def run(self) -> bool:
        """Fire what is due; return whether more waits.

        Raises:
            Postponed: no look got through this time.
            Unreachable: the session is gone.
        """
        if not self._schedules or clock() < self._look_at:
            return False
        try:
            return self._run()
        except WrongEnvironment as refused:
            # The table is younger than the oldest schema that this release serves: jobs are published anyway.
            self._look_at = clock() + UNABLE
            self._observe(events.SlotsRefused(str(refused)))
            return False

    def prune(self, after: float, rows: int) -> bool:
        """Forget at most ``rows`` slots that are older than ``after`` seconds; return whether more are.

        Raises as ``run``.
        """
        if not self._schedules:
            return False
        try:
            return len(self._backend.rows(PRUNE, {"after": after, "rows": rows})) == rows
        except WrongEnvironment as refused:
            self._observe(events.SlotsRefused(str(refused)))
            return False

    def _run(self) -> bool:
        until, earliest = clock() + SLICE, clock() + AT_MOST
        for name, (now, since) in self._standing().items():
            looked = clock()
            try:
                if not self._fire_due(self._schedules[name], since, now, until):
                    return True
            except Postponed:  # told by the loop; the others need not wait for it
                earliest = min(earliest, looked + AGAIN)
            following = self._schedules[name].cron.next(now)
            if following is not None:
                earliest = min(earliest, looked + (following - now).total_seconds())
        self._look_at = earliest
        return False

    def _fire_due(self, schedule: Schedule, since: datetime, now: datetime, until: float) -> bool:
        """Fire oldest first, so that the last row of a schedule always says where it goes on."""
        for slot in schedule.due(since, now):
            if clock() > until:
                return False
            self._fire(schedule, slot)
        return True

    def _standing(self) -> dict[str, tuple[datetime, datetime]]:
        """Return now, and since when, for each schedule; those that were never seen begin here."""
        found = self._read()
        unseen = [name for name, (_, since) in found.items() if since is None]
        if unseen:
            self._backend.rows(ENROL, {"names": unseen, "by": label()})
            found = self._read()
        return {name: (now, since) for name, (now, since) in found.items() if since is not None}

    def _read(self) -> dict[str, tuple[datetime, datetime | None]]:
        rows = self._backend.rows(STANDING, {"names": list(self._schedules)})
        return {name: (now, since) for name, now, since in rows}

    def _fire(self, schedule: Schedule, slot: datetime) -> None:
        values = schedule.values(slot, label())
        if self._backend.rows(FIRE, values):
            told = slot.isoformat(timespec="seconds")
            self._observe(events.SlotFired(schedule.name, told, str(values["id"])))
