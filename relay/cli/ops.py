"""The commands that operate on jobs: status, list, show, retry, cancel, bury, prune.

They parse and print; the SQL is in ``queries.py``, ``listing.py`` and ``orders.py``. They
need no lock and no relay, and work through a pooler.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from outbox.errors import Busy, OutboxError
from outbox.states import State
from relay.cli import database, options, tables

if TYPE_CHECKING:
    from uuid import UUID

    from relay.cli.orders import Order, Outcome

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


@click.command()
@options.settings(*options.DATABASE)
@click.option(
    "--exact", is_flag=True, help="Count every job; by default more than 100,000 of a state are estimated."
)
@json_option
def status(*, exact: bool, as_json: bool, **flags: Any) -> None:
    """Show who leads, what waits and what is down.

    Lag is the age of the oldest job that should have been published by now. A state with more than 100,000
    jobs is estimated from statistics, and marked by ~.
    """
    from relay.cli import overview  # noqa: PLC0415

    with database.opened(flags) as session:
        found = overview.read(session, exact=exact)
    if as_json:
        tables.as_json(found)
    else:
        click.echo(overview.told(found))


@click.command("list")
@options.settings(*options.DATABASE)
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state.")
@click.option("--kind", metavar="KIND", help="Only jobs of this kind; * stands for anything.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many."
)
@click.option("--after", metavar="MARK", help="Go on where the page before ended.")
@json_option
def list_(
    *, state: str | None, kind: str | None, limit: int, after: str | None, as_json: bool, **flags: Any
) -> None:
    """List jobs, the latest first.

    Finished ones are in the order in which they finished, scheduled ones in that in which they fall due, all
    others in that of their ids, which hold the time. An id of your own (insert, or an event that was adopted
    from elsewhere) stands where it sorts. Times are in UTC.
    """
    from relay.cli import listing  # noqa: PLC0415

    with database.opened(flags) as session:
        found = listing.page(session, listing.Filter(State(state) if state else None, kind), limit, after)
    if as_json:
        tables.as_json({"jobs": found.jobs, "after": found.after})
        return
    head = ("ID", "KIND", "KEY", "STATE", "ATTEMPT", "CREATED", "ERROR")
    rows = [
        (
            job["id"],
            job["kind"],
            job["key"],
            job["state"],
            f"{job['attempt']}/{job['max_attempts']}",
            tables.moment(job["created_at"]),
            job["error"],
        )
        for job in found.jobs
    ]
    click.echo(tables.aligned([head, *rows]))
    if found.after:
        click.echo(f"more: --after {found.after}", err=True)


@click.command()
@options.settings(*options.DATABASE)
@click.argument("job_id", metavar="ID", type=click.UUID)
@json_option
def show(*, job_id: UUID, as_json: bool, **flags: Any) -> None:
    """Show one job, its payload and its history."""
    from relay.cli import listing  # noqa: PLC0415

    with database.opened(flags) as session:
        found = listing.job(session, job_id)
    if found is None:
        raise OutboxError(f"there is no job {job_id}: it was never committed, or it is pruned")
    if as_json:
        tables.as_json(found)
        return
    history = found.pop("history")
    cells = [(name, tables.plain(value)) for name, value in found.items() if value is not None]
    click.echo(tables.aligned(cells, widest=None))
    if history:
        head = ("VERSION", "FROM", "TO", "AT", "BY", "NOTE")
        rows = [
            (h["version"], h["from"], h["to"], tables.moment(h["at"], "microseconds"), h["by"], h["note"])
            for h in history
        ]
        click.echo("\n" + tables.aligned([head, *rows]))


def _chosen(command: Any) -> Any:
    """Give a command the ways to say which jobs."""
    for option in (
        json_option,
        click.option("--all", "everything", is_flag=True, help="All jobs that --state and --kind describe."),
        click.option("--kind", metavar="KIND", help="With --all: only this kind; * stands for anything."),
        click.option(
            "--state", type=click.Choice([state.value for state in State]), help="With --all: the state."
        ),
        click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID),
        options.settings(*options.DATABASE),
    ):
        command = option(command)
    return command


@click.command()
@_chosen
@click.option("--again", is_flag=True, help="Also jobs that succeeded, and events that were published.")
def retry(*, again: bool, **chosen: Any) -> None:
    """Run jobs once more, now.

    Dead, cancelled, parked or published ones. A job that is busy just then is left as it is; the exit code is
    75 when there was one.
    """
    from relay.cli import orders  # noqa: PLC0415

    _carry_out(orders.AGAIN if again else orders.RETRY, "retried", chosen)


@click.command()
@_chosen
def cancel(**chosen: Any) -> None:
    """Cancel jobs that wait.

    Scheduled, pending, parked or published ones. A job that is busy just then is left as it is; the exit code
    is 75 when there was one.
    """
    from relay.cli import orders  # noqa: PLC0415

    _carry_out(orders.CANCEL, "cancelled", chosen)


@click.command()
@_chosen
@click.option("--reason", metavar="TEXT", help="Kept with the jobs.")
def bury(*, reason: str | None, **chosen: Any) -> None:
    """Give up jobs that wait, and keep them as dead.

    Scheduled, pending, parked or published ones. A job that is busy just then is left as it is; the exit code
    is 75 when there was one.
    """
    from relay.cli import orders  # noqa: PLC0415

    _carry_out(orders.BURY, "buried", chosen, reason)


def _carry_out(order: Order, done: str, chosen: dict[str, Any], reason: str | None = None) -> None:
    ids, state, kind = chosen.pop("ids"), chosen.pop("state"), chosen.pop("kind")
    as_json, everything = chosen.pop("as_json"), chosen.pop("everything")
    _refuse_unclear(order, ids, state, kind, everything)
    from relay.cli import listing, orders  # noqa: PLC0415

    with database.opened(chosen) as session:
        if everything:
            outcome = orders.carry_out_all(session, order, listing.Filter(State(state), kind), reason)
            outcome.refused.clear()  # they went on by themselves meanwhile, and nobody named them
        else:
            outcome = orders.carry_out(session, order, ids, reason)
    _tell(outcome, done, as_json=as_json)


def _refuse_unclear(
    order: Order, ids: tuple[UUID, ...], state: str | None, kind: str | None, everything: bool
) -> None:
    if bool(ids) == everything:
        raise click.UsageError("name the jobs by their ids, or say --all with --state")
    if ids and (state or kind):
        raise click.UsageError("--state and --kind go with --all, not with ids")
    if everything and not state:
        raise click.UsageError("--all needs --state")
    if everything and state not in order.sources:
        raise click.UsageError(
            f"{order.verb} is for {', '.join(sorted(order.sources))} jobs, not for {state} ones"
        )


def _tell(outcome: Outcome, done: str, *, as_json: bool) -> None:
    """Print what was done; end with 1 when a job that was named was refused, with 75 when one was busy."""
    if as_json:
        tables.as_json({"done": outcome.done, "busy": outcome.busy, "refused": outcome.refused})
    else:
        busy = f", {outcome.busy} busy: try again" if outcome.busy else ""
        click.echo(f"{done} {outcome.done}{busy}")
        for job_id, why in outcome.refused.items():
            click.echo(f"outbox: {job_id}: {why}", err=True)
    if outcome.refused or outcome.busy:
        sys.exit(OutboxError.exit_code if outcome.refused else Busy.exit_code)


@click.command()
@options.settings(*options.DATABASE)
@click.option("--older-than", metavar="SECONDS", required=True, help="Since they finished: 3600, 12h, 7d.")
@click.option("--dead", is_flag=True, help="Dead jobs too; they are kept otherwise.")
@json_option
def prune(*, older_than: str, dead: bool, as_json: bool, **flags: Any) -> None:
    """Delete finished jobs and their history.

    Succeeded and cancelled jobs, and events that were published. The relay does the same by itself.
    """
    from relay.cli import orders  # noqa: PLC0415

    seconds = options.seconds("--older-than", older_than)
    with database.opened(flags) as session:
        count = orders.prune(session, seconds, dead=dead)
    if as_json:
        tables.as_json({"pruned": count})
    else:
        click.echo(f"pruned {count}")


COMMANDS: Final = (status, list_, show, retry, cancel, bury, prune)
