"""Reads ``[[schedules]]`` of the settings, and tells every problem. ``scheduler.py`` fires them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from outbox.schedules import Schedule

KEYS: Final = ("name", "cron", "kind", "payload", "zone", "misfire")
NEEDED: Final = ("name", "cron", "kind")


def schedules(tables: object, problems: list[str]) -> tuple[Schedule, ...]:
    """Return the schedules that are right.

    Args:
        tables: what TOML made of ``[[schedules]]``.
        problems: what is wrong is added to it.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append("schedules must be written as [[schedules]]")
        return ()
    found = [_schedule(number, table, problems) for number, table in enumerate(tables, 1)]
    return distinct((each for each in found if each is not None), problems)


def distinct(found: Iterable[Schedule], problems: list[str]) -> tuple[Schedule, ...]:
    """Return schedules of which no two have one name: the second would never fire."""
    named: dict[str, Schedule] = {}
    for each in found:
        if each.name in named:
            problems.append(f"there are two schedules called {each.name!r}")
        named[each.name] = each
    return tuple(named.values())


def _schedule(number: int, table: Mapping[str, Any], problems: list[str]) -> Schedule | None:
    from outbox.schedules import schedule  # noqa: PLC0415 - with SQLAlchemy, which most relays never need

    where = f"schedule {number}" + (f" ({table['name']})" if "name" in table else "")
    wrong = [f"{key} is no key (there are {', '.join(KEYS)})" for key in table if key not in KEYS]
    wrong += [f"{key} is missing" for key in NEEDED if key not in table]
    if not wrong:
        try:
            return schedule(**{"payload": {}, **table})
        except (TypeError, ValueError) as error:
            wrong.append(str(error))
    problems += [f"{where}: {each}" for each in wrong]
    return None
