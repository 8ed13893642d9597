"""The commands that run by the clock: ``cron run``, once a slot and never twice at once; ``cron list``."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import click

from outbox.errors import ConfigError
from relay.cli import database, options, tables
from relay.cli.ops import json_option

if TYPE_CHECKING:
    from datetime import datetime

    from outbox.cron import Cron

NOT_FOUND: Final = 127
LONGEST: Final = 200


@click.group()
def cron() -> None:
    """Run a command by the clock: once a slot, and never twice at once."""


@cron.command()
@options.settings(*options.DATABASE)
@click.option(
    "--schedule", "expression", metavar="CRON", required=True, help="When it is started: '*/10 * * * *'."
)
@click.option("--zone", default="UTC", show_default=True, help="Whose wall clock that is: Europe/Berlin.")
@click.option(
    "--kill-after",
    metavar="SECONDS",
    default="10",
    show_default=True,
    help="From SIGTERM to SIGKILL, when the lock is lost.",
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *, name: str, expression: str, zone: str, kill_after: str, command: tuple[str, ...], **flags: Any
) -> None:
    """Run COMMAND unless this slot has run, or another run is under way.

    For schedulers that start things twice: outbox cron run NAME --schedule '*/10 * * * *' -- COMMAND…

    A start belongs to the last slot of the schedule by the database's clock, or to the next one if that is
    less than 30 s away, and less than a quarter of the interval: 15 s where it is a minute. Two starts on
    either side of that are for two slots. What makes two starts the same is NAME.

    Signals are passed on to the command, and its exit code is that of this one. A start that is skipped says
    who ran, and exits 0. If the database does not answer, nothing is run: exit code 69. If the session that
    holds the lock ends while the command runs, the command is stopped: exit code 1. A command that is killed
    is not run again before the next slot.
    """
    at = _cron(name, expression, zone)
    seconds = options.seconds("--kill-after", kill_after)
    settings = options.load(flags, *options.DATABASE)
    if shutil.which(command[0]) is None:  # before the slot is used up
        click.echo(f"outbox: {name}: there is no command {command[0]}", err=True)
        sys.exit(NOT_FOUND)
    from relay.cli import child, runs  # noqa: PLC0415 - psycopg, which --help does not need
    from relay.sandbox.leash import Leash  # noqa: PLC0415 - the same

    leash, turn = Leash(), None
    try:
        turn = runs.Turn(settings.dsn, name)
        taken = turn.take(at)
        if isinstance(taken, runs.Skipped):
            click.echo(f"outbox: {name} skipped: {taken.why}", err=True)
            return
        code = child.Child(command, turn, leash, seconds).run()
    finally:
        if turn is not None:
            turn.close()
        leash.close()
    sys.exit(code)


def _cron(name: str, expression: str, zone: str) -> Cron:
    from outbox.cron import Cron  # noqa: PLC0415 - which --help does not need
    from outbox.names import check_name  # noqa: PLC0415 - the same

    try:
        check_name(name, "NAME", LONGEST)
        return Cron(expression, zone)
    except ValueError as error:
        raise ConfigError([str(error)]) from None


@cron.command("list")
@options.settings(*options.DATABASE)
@json_option
def list_(*, as_json: bool, **flags: Any) -> None:
    """List schedules and commands, with their last slots.

    The next slot is known of the schedules in the file of settings.
    """
    settings = options.load(dict(flags), *options.DATABASE)
    from relay.cli import runs  # noqa: PLC0415 - psycopg, which --help does not need

    with database.opened(flags) as session:
        found = {(each["what"], each["name"]): {**each, "next": None} for each in runs.listed(session)}
        now: datetime = (session.execute("SELECT clock_timestamp()").fetchone() or ())[0]
    for schedule in settings.schedules:
        unseen = {"name": schedule.name, "what": "schedule", **dict.fromkeys(runs.RECORD)}
        found.setdefault(("schedule", schedule.name), unseen)["next"] = schedule.cron.next(now)
    rows = sorted(found.values(), key=lambda each: (each["what"], each["name"]))
    if as_json:
        tables.as_json({"schedules": rows})
        return
    head = ("NAME", "WHAT", "LAST SLOT (UTC)", "RUN AT (UTC)", "BY", "NEXT SLOT (UTC)", "")
    cells = [
        (
            each["name"],
            each["what"],
            _moment(each["last"]),
            _moment(each["at"]),
            each["by"],
            _moment(each["next"]),
            "runs now" if each["running"] else "",
        )
        for each in rows
    ]
    click.echo(tables.aligned([head, *cells]))


def _moment(value: datetime | None) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if value else ""
