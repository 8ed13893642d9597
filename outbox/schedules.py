"""Schedules: which job is added at which slots, and what becomes of slots that nobody was there for.

Firing needs no election and no leader: whoever is there may fire, and of any number of them one does. The
relay that leads does it (``[[schedules]]`` in its settings, ``--schedules module:name`` on its command line);
``Schedules.fire`` is for those who would rather do it themselves. Expressions are read in ``cron``, and the
SQL is in ``slots``.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, timedelta
from json import dumps
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from sqlalchemy import text

from outbox import slots
from outbox.cron import Cron
from outbox.errors import Misuse
from outbox.names import check_headers, check_name
from outbox.new import MAX_ATTEMPTS, columns
from outbox.payload import JSON
from outbox.sessions import checked
from outbox.slots import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Unpack

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from outbox.new import JobOptions

FIRED: Final = UUID("15c14238-221d-4605-b8c9-5b9a2caee5ae")
"""Namespace of the ids of scheduled jobs. It never changes: a slot's job is the same after an upgrade."""

ON_TIME: Final = timedelta(seconds=30)
"""A slot that is no older is on time: a killed leader is followed within ten seconds."""

MOST: Final = 1000
"""So many slots at most are made good after an outage."""

_MISFIRE: Final = re.compile(r"all\((\d{1,4})\)")


@dataclass(frozen=True, slots=True)
class Fired:
    """A slot that this call fired: its job's row is in the same transaction."""

    schedule: str
    slot: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule; made by ``Schedules.add`` and from ``[[schedules]]``.

    Args:
        name: What makes it one schedule, in this database, whatever its expression says tomorrow.
        cron: When.
        misfire: ``skip``, ``latest`` or ``all(n)``.
        job: The columns of its jobs.
    """

    name: str
    cron: Cron
    misfire: str
    job: Mapping[str, Any]

    @property
    def catch_up(self) -> int:
        """How many slots are made good that are late."""
        return catch_up(self.misfire)

    def due(self, since: datetime, now: datetime) -> list[datetime]:
        """Return the slots to fire, oldest first.

        Whatever is on time, and of what is late so many of the last ones that all together are ``catch_up``.

        Args:
            since: The last slot that was fired, or when the schedule was first seen.
            now: By the database's clock.
        """
        fresh = max(since, now - ON_TIME)
        on_time = list(self.cron.between(fresh, now))
        missing = self.catch_up - len(on_time)
        late = self.cron.newest(missing, after=since, upto=fresh) if missing > 0 and since < fresh else []
        return [*late, *on_time]

    def values(self, slot: datetime, by: str) -> dict[str, Any]:
        """Return the parameters of ``slots.FIRE``."""
        told = slot.astimezone(UTC).isoformat(timespec="seconds")
        optional = dict.fromkeys(("key", "exchange", "routing_key"))
        defaults = {"content_type": JSON, "max_attempts": MAX_ATTEMPTS, "tracked": True}
        headers = {**self.job.get("headers", {}), "schedule": self.name, "slot": told}
        own = {"schedule": self.name, "slot_at": slot, "by": by, "headers": dumps(headers)}
        # The name holds no line feed, so that no two pairs are written alike.
        return {**optional, **defaults, **self.job, **own, "id": uuid5(FIRED, f"{self.name}\n{told}")}


def schedule(
    name: str,
    cron: str,
    kind: str,
    payload: Any = None,
    *,
    zone: str = "UTC",
    misfire: str = "latest",
    event: bool = False,
    **options: Unpack[JobOptions],
) -> Schedule:
    """Return a schedule, checked; the parameters are those of ``Schedules.add``.

    Raises:
        TypeError, ValueError: Something cannot be; it is named.
    """
    for refused in ("delay", "at"):
        if refused in options:
            raise ValueError(f"a schedule says itself when its jobs are due: no {refused}")
    if check_name(name, "a schedule's name").startswith(RUN):
        raise ValueError(f"a schedule's name must not begin with {RUN}, as those of outbox cron run do")
    headers = check_headers(options.get("headers"))
    if taken := {"schedule", "slot"} & headers.keys():
        raise ValueError(f"the header {min(taken)} is the schedule's own")
    catch_up(misfire)
    job = columns(kind, payload, **options, tracked=not event)
    return Schedule(name=name, cron=Cron(cron, zone), misfire=misfire, job=job)


def catch_up(misfire: str) -> int:
    """Return how many late slots a policy makes good.

    Raises:
        TypeError, ValueError: There is no such policy.
    """
    if not isinstance(misfire, str):
        raise TypeError(f"misfire is {type(misfire).__name__}, not str")
    found = _MISFIRE.fullmatch(misfire)
    count = int(found[1]) if found else {"skip": 0, "latest": 1}.get(misfire, -1)
    if not (0 <= count <= MOST) or (found and not count):
        raise ValueError(f"misfire is {misfire!r}: skip, latest, or all(n) with n from 1 to {MOST}")
    return count


class Schedules:
    """The schedules of an application.

    ::

        schedules = outbox.Schedules()
        schedules.add("nightly report", "30 2 * * *", "report.build", {"days": 1}, zone="Europe/Berlin")

    The leading relay fires them (``outbox relay --schedules shop.jobs:schedules``). A job's handler finds in
    ``job.headers["slot"]`` which slot it is for, in UTC.
    """

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}

    def add(
        self,
        name: str,
        cron: str,
        kind: str,
        payload: Any = None,
        *,
        zone: str = "UTC",
        misfire: str = "latest",
        event: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        """Add a schedule.

        Args:
            name: Which schedule it is: at most 255 bytes. Give it another and it is another schedule.
            cron: Minute, hour, day of the month, month, day of the week; with a sixth field in front,
                seconds; or ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
            kind: Of its jobs, as in ``outbox.add``.
            payload: Of its jobs, as in ``outbox.add``; fixed, so put nothing in it that changes.
            zone: Whose wall clock is meant, such as ``Europe/Berlin``. A time of the day that the clock skips
                comes at the end of the gap; one that it shows twice comes the first time alone. Where minute
                or hour begins with ``*``, slots follow real time instead.
            misfire: What becomes of slots that are over 30 s late, because nobody was there to fire them:
                ``skip`` drops them, ``latest`` makes the last one good, ``all(10)`` the last ten. A schedule
                that is new has none.
            event: Emit an event instead of adding a job.
            options: ``key, headers, max_attempts, exchange, routing_key, content_type, max_bytes`` as in
                ``outbox.add``.

        Raises:
            TypeError, ValueError: Something cannot be; it is named.
            Misuse: There is a schedule of this name already.
        """
        made = schedule(name, cron, kind, payload, zone=zone, misfire=misfire, event=event, **options)
        if name in self._schedules:
            raise Misuse(f"there are two schedules called {name!r}")
        self._schedules[name] = made

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._schedules.values())

    def fire(self, session: Session | scoped_session[Any]) -> list[Fired]:
        """Add the jobs of all slots that are due and not fired, to the session's transaction.

        For those who want no relay to do it: call it as often as you like and from as many processes, and
        commit soon, since others wait for the slots that you hold. The role needs the rights of a consumer.

        Args:
            session: A session of SQLAlchemy on PostgreSQL.

        Returns:
            The slots that this call fired; those that others had fired are not among them.

        Raises:
            Misuse: No engine for us, AUTOCOMMIT, or another database.
        """
        # In the order of their names: two that fire the same ones must not wait for each other.
        ordered = sorted(self._schedules.values(), key=lambda each: each.name)
        connection, by = checked(session), f"{socket.gethostname()}:{os.getpid()}"

        def run(statement: str, **values: Any) -> Sequence[Any]:
            result = connection.execute(text(statement), values)
            return result.fetchall() if result.returns_rows else ()

        standing = {name: (now, since) for name, now, since in run(slots.STANDING, names=_names(ordered))}
        if unseen := [each for each in ordered if standing[each.name][1] is None]:
            run(slots.ENROL, names=_names(unseen), by=by)
        fired = []
        for each in ordered:
            now, since = standing[each.name]
            for slot in each.due(since, now) if since is not None else ():
                values = each.values(slot, by)
                if run(slots.FIRE, **values):
                    fired.append(Fired(each.name, slot, values["id"]))
        return fired

    async def fire_async(self, session: AsyncSession) -> list[Fired]:
        """``fire`` for sessions that are awaited."""
        return await session.run_sync(self.fire)


def _names(schedules: Sequence[Schedule]) -> list[str]:
    return [each.name for each in schedules]


__all__ = ["Fired", "Schedule", "Schedules"]
