"""Collects the settings: flags, then ``OUTBOX_…`` variables, then ``outbox.toml``, then the defaults below.

One frozen dataclass is the table of all settings; ``--help`` and the documentation are made from it. Every
problem is reported at once. How a single value is read is in ``relay/values.py``; nothing is opened here but
the file.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outbox.errors import ConfigError
from relay import timetable, urls, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from outbox.schedules import Schedule

FILE: Final = "outbox.toml"
ALMOST: Final = 0.9
"""How alike a variable is to one of ours (0 to 1) if it is taken for a slip: a letter of ten."""

STATEMENT: Final = 2.0
"""Seconds that a statement of the leader may take; its heartbeat may be late by that much."""

TRUST: Final = 0.6
"""The share of ``stale`` in which a leader believes in itself."""


def _setting(default: Any, read: Callable[[object], Any], told: str) -> Any:
    return field(default=default, metadata={"read": read, "help": told})


def _secret(read: Callable[[object], Any], told: str) -> Any:
    return field(default="", repr=False, metadata={"read": read, "help": told})


@dataclass(frozen=True, slots=True)
class Route:
    """Where jobs of some kinds go.

    Args:
        match: a pattern on the kind, as in a shell: ``mail.*``.
        exchange: None: the relay's. Empty: the broker's own, where the routing key is a queue.
        routing_key: None: the kind.
        max_bytes: the largest payload that the route takes. None: no bound of ours.
    """

    match: str
    exchange: str | None = None
    routing_key: str | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Durations are seconds, sizes bytes. None is named port or host: Kubernetes sets such."""

    database_url: str = _secret(values.text, "PostgreSQL, direct and the primary: postgresql://…")
    broker_url: str = _secret(values.text, "the broker: amqp://… or redis://…")

    heartbeat: float = _setting(1.0, values.duration, "how often the leader renews its claim")
    stale: float = _setting(8.0, values.duration, "a leader that is silent for so long is replaced")
    window: int = _setting(1000, values.at_most(100_000), "jobs in flight to the broker at most")
    window_bytes: int = _setting(
        8_000_000, values.at_most(1_000_000_000, values.size), "bytes in flight to the broker at most"
    )
    order: str = _setting(
        "strict",
        values.one_of("strict", "pipelined", "serial"),
        "jobs of one key: one in flight (strict), many (pipelined), or one unfinished (serial)",
    )
    exchange: str = _setting("outbox", values.name, "where jobs go that no route names")
    redeliver_after: float = _setting(600.0, values.duration, "published but lost by the broker: send again")
    retention: float = _setting(
        604_800.0, values.duration, "finished jobs are kept for so long; dead ones for ever"
    )
    doorbell: bool = _setting(True, values.switch, "let new jobs wake an idle relay")
    http: str | None = _setting(None, values.address, "serve /livez and /readyz at ADDRESS:PORT")
    allow_lossy: bool = _setting(False, values.switch, "accept a broker that loses messages")
    take_over: bool = _setting(
        False,
        values.switch,
        "serve another broker than the one before, or take kinds over from other queues",
    )
    drain: bool = _setting(False, values.switch, "publish what is due, then end")

    concurrency: int = _setting(8, values.at_most(10_000), "handlers at work at the same time")
    prefetch: int | None = _setting(
        None, values.at_most(65_535), "messages in hand; twice the concurrency when not set"
    )
    grace: float = _setting(25.0, values.duration, "how long handlers may finish when asked to stop")
    queue_type: str = _setting("quorum", values.one_of("quorum", "classic"), "for a queue that is declared")
    declare: bool = _setting(True, values.switch, "declare exchange, queue and bindings")

    log: str = _setting(
        "auto",
        values.one_of("auto", "text", "json"),
        "lines for people or for machines; auto: text on a terminal",
    )
    routes: tuple[Route, ...] = ()
    schedules: tuple[Schedule, ...] = ()

    @property
    def dsn(self) -> str:
        """The database's address as libpq reads it."""
        return urls.database(self.database_url)


TABLE: Final = {setting.name: setting for setting in fields(Settings) if setting.metadata}
_ROUTE: Final = {
    "match": values.name,
    "exchange": values.name,
    "routing_key": values.name,
    "max_bytes": values.size,
}


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None = None,
    *,
    needs: Sequence[str] = (),
) -> Settings:
    """Return the settings.

    Args:
        flags: what the command line gave, by the settings' names; None is not given.
        environ: the environment.
        file: the TOML file. None: ``outbox.toml`` of the current folder, where there is one.
        needs: settings that this command cannot do without.

    Raises:
        ConfigError: something is wrong; it lists everything that is.
    """
    problems: list[str] = []
    table = _table(file, environ, problems)
    unread = bool(problems)  # what it says of the settings that are missing nobody knows
    routes = _routes(table.pop("routes", []), problems)
    schedules = timetable.schedules(table.pop("schedules", []), problems)
    given = {**_from_table(table, problems), **_from_environment(environ, problems), **_from_flags(flags)}
    chosen = {name: _read(name, label, raw, problems) for name, (label, raw) in given.items()}
    known = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings(**known, routes=routes, schedules=schedules)
    given_for_real = {name for name, value in chosen.items() if value != ""}
    problems += [] if unread else _missing(set(needs) - given_for_real)
    problems += _contradictions(settings, chosen)
    if problems:
        raise ConfigError(problems)
    return replace(settings, broker_url=urls.broker(settings.broker_url)) if settings.broker_url else settings


def _table(file: Path | None, environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    named = file or (Path(environ["OUTBOX_CONFIG"]) if environ.get("OUTBOX_CONFIG") else None)
    path = named or Path(FILE)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            problems.append(f"{named} does not exist")
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read: {error}")
    return {}


def _from_table(table: Mapping[str, object], problems: list[str]) -> dict[str, tuple[str, object]]:
    spelled = {key.replace("-", "_"): value for key, value in table.items()}
    problems += [
        _unknown(key, (*TABLE, "routes", "schedules"), "setting") for key in spelled if key not in TABLE
    ]
    return {name: (f"{name} in {FILE}", value) for name, value in spelled.items() if name in TABLE}


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, object]]:
    variables = [(f"OUTBOX_{name.upper()}", name) for name in TABLE]
    problems += _misspelt(environ, [variable for variable, _ in variables])
    given = [("DATABASE_URL", "database_url"), *variables]
    return {name: (variable, environ[variable]) for variable, name in given if environ.get(variable)}


def _misspelt(environ: Mapping[str, str], ours: Sequence[str]) -> Iterator[str]:
    """Tell of variables that are almost ours; others that begin with OUTBOX_ may be anybody's."""
    for variable in sorted(name for name in environ if name.startswith("OUTBOX_") and name not in ours):
        if near := difflib.get_close_matches(variable, ours, n=1, cutoff=ALMOST):
            yield f"{variable} is no setting; did you mean {near[0]}?"


def _from_flags(flags: Mapping[str, object]) -> dict[str, tuple[str, object]]:
    dashed = {name: name.replace("_", "-") for name in flags}
    return {name: (f"--{dashed[name]}", value) for name, value in flags.items() if value is not None}


def _read(name: str, label: str, raw: object, problems: list[str]) -> Any:
    try:
        return TABLE[name].metadata["read"](raw)
    except ValueError as error:
        # A value that may hold a password is never repeated.
        problems.append(f"{label} must be text" if "url" in name else f"{label} {error}")
    return None


def _routes(tables: object, problems: list[str]) -> tuple[Route, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append("routes must be written as [[routes]]")
        return ()
    return tuple(_route(number, table, problems) for number, table in enumerate(tables, 1))


def _route(number: int, table: Mapping[str, object], problems: list[str]) -> Route:
    where = f"route {number} in {FILE}"
    problems += [f"{where}: {_unknown(key, tuple(_ROUTE), 'key')}" for key in table if key not in _ROUTE]
    found: dict[str, Any] = {}
    for key, read in _ROUTE.items():
        try:
            found |= {key: read(table[key])} if key in table else {}
        except ValueError as error:
            problems.append(f"{where}: {key} {error}")
    if not table.get("match"):
        problems.append(f'{where}: match is missing (match = "mail.*")')
    return Route(**{"match": "*", **found})


def _unknown(key: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key} is no {what}" + (
        f"; did you mean {near[0]}?" if near else f" (there are {', '.join(known)})"
    )


def _missing(names: set[str]) -> list[str]:
    return [f"--{name.replace('_', '-')} (or OUTBOX_{name.upper()}) is missing" for name in sorted(names)]


def _contradictions(settings: Settings, given: Mapping[str, object]) -> list[str]:
    """Return what cannot be together: a leader must stop believing in itself before others replace it."""
    problems = [] if settings.heartbeat > 0 else ["heartbeat must be more than 0"]
    if settings.heartbeat + STATEMENT >= TRUST * settings.stale:
        least = (settings.heartbeat + STATEMENT) / TRUST
        problems.append(
            f"stale must be more than {least:g} s when heartbeat is {settings.heartbeat:g} s "
            f"(heartbeat + {STATEMENT:g} < {TRUST:g} x stale), not {settings.stale:g}"
        )
    for name, check in (("database_url", urls.database), ("broker_url", urls.broker)):
        if given.get(name):
            try:
                check(getattr(settings, name))
            except ConfigError as error:
                problems += error.problems
    return problems
