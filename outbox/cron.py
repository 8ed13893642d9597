"""Reads cron expressions, and tells their slots: the instants, in UTC, at which something shall happen.

A slot follows from expression and zone alone, so that everybody who asks gets the same one, whatever the
clock of their host says. Knows no schedule, no job and no database.

On the two nights of a change of the clock this is Debian's cron. Where minute or hour begins with ``*``,
slots follow real time, through both of a doubled hour and over a skipped one. Any other expression means a
time of the day: in a doubled hour it happens once, the first time; in a skipped one, at the end of the gap.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

FAR: Final = timedelta(days=50 * 366)
"""How far a slot is looked for: the rarest, a fifth Monday in February, comes every 28 years or so."""

_FIELDS: Final = 5
_MINUTE: Final = timedelta(minutes=1)


class Cron:
    """A cron expression in a time zone.

    Args:
        expression: Five fields (minute, hour, day of the month, month, day of the week), or six with seconds
            in front, or ``@hourly`` and the like.
        zone: Whose wall clock it means, such as ``Europe/Berlin``.

    Raises:
        TypeError, ValueError: It is no such expression, or there is no such zone.
    """

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        for what, value in (("expression", expression), ("zone", zone)):
            if not isinstance(value, str):
                raise TypeError(f"{what} is {type(value).__name__}, not str")
        self.expression, self.zone = expression, zone
        self._zone = _zone(zone)
        self._minutes, self._seconds = _fields(expression)
        if self.next(datetime.now(UTC)) is None:
            raise ValueError(f"{expression!r} never comes")

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, {self.zone!r})"

    def between(self, after: datetime, upto: datetime) -> Iterator[datetime]:
        """Yield the slots later than ``after`` and not later than ``upto``, oldest first, in UTC.

        Always counted from the time before: where an iteration begins must not decide what it finds.
        """
        for minute in _WallClock(self._minutes, (after - _MINUTE).astimezone(self._zone)):
            begin = minute.astimezone(UTC)
            if begin > upto:
                return
            for second in self._seconds:
                slot = begin + timedelta(seconds=second)
                if after < slot <= upto:  # in a doubled hour the first ones may lie before `after`
                    yield slot

    def newest(self, count: int, *, after: datetime, upto: datetime) -> list[datetime]:
        """Return the last slots of ``between``, at most ``count``, without counting through all of them."""
        reach = _MINUTE
        while True:
            begin = max(after, upto - reach)
            found = deque(self.between(begin, upto), maxlen=count)
            if len(found) == count or begin == after:
                return list(found)
            reach *= 8

    def latest(self, upto: datetime) -> datetime | None:
        """Return the last slot that is not later than ``upto``; None: there was none in fifty years."""
        return next(iter(self.newest(1, after=upto - FAR, upto=upto)), None)

    def next(self, after: datetime) -> datetime | None:
        """Return the first slot later than ``after``; None: there is none in fifty years."""
        return next(self.between(after, after + FAR), None)


class _WallClock(CronSim):  # type: ignore[misc, unused-ignore]
    """Goes to the next hour and minute of the clock on the wall.

    CronSim goes on by sixty minutes instead, and leaves out the first half of every hour after Lord Howe
    moved its clock by thirty; and it takes a midnight that Havana leaves out for one that there was.
    """

    def advance_month(self) -> None:
        super().advance_month()
        self._leave_gap()

    def advance_day(self) -> bool:
        moved: bool = super().advance_day()
        self._leave_gap()
        return moved

    def advance_hour(self) -> bool:
        if self.dt.hour in self.hours:
            return False
        while self.dt.hour not in self.hours:
            self.tick(3600 - 60 * self.dt.minute - self.dt.second)
            if self.dt.hour == 0:
                break
        return True

    def advance_minute(self) -> bool:
        if self.dt.minute in self.minutes:
            return False
        while self.dt.minute not in self.minutes:
            self.tick(60 - self.dt.second)
            if self.dt.minute == 0:
                break
        return True

    def _leave_gap(self) -> None:
        if self.dt.tzinfo is not None:
            self.dt = self.dt.astimezone(UTC).astimezone(self.dt.tzinfo)


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # also where the system has no zones
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # a folder, a path, no such name: it is looked up as a file
        raise ValueError(
            f"zone {name!r} is not known here: give one such as Europe/Berlin, or install tzdata"
        ) from None


def _fields(expression: str) -> tuple[str, tuple[int, ...]]:
    """Divide an expression into its five fields, and the seconds of each minute.

    With the seconds inside, the library would give an expression another meaning on the nights of a change.
    """
    words = ALIASES.get(expression.strip().lower(), expression).split()
    seconds, minutes = words[:-_FIELDS] or ["0"], words[-_FIELDS:]
    if len(minutes) != _FIELDS or len(seconds) != 1:
        raise ValueError(f"{expression!r} is no cron expression: five fields, or six with seconds in front")
    try:
        parsed = CronSim(" ".join([*seconds, *minutes]), datetime.now(UTC))
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        why = str(error).lower() or "it cannot be read"
        raise ValueError(f"{expression!r} is no cron expression: {why}") from None
    return " ".join(minutes), tuple(sorted(parsed.seconds))


__all__ = ["Cron"]
