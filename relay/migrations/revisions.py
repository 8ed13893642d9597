"""Runs the revisions for Alembic: ``alembic/env.py`` is one call of ``run``.

The lock and the guards are those of ``outbox migrate``, whichever command Alembic was started by. Taking
turns is in ``turn.py``, and what a revision does in ``alembic/versions``.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import DBAPIError

from outbox.database import SCHEMA, VERSION_TABLE
from outbox.errors import Busy, ConfigError, OutboxError
from outbox.models import metadata
from relay.migrations import turn
from relay.migrations.standing import MAKE_ROOM, clear_ruins, make_room, obstacles, standing
from relay.migrations.turn import WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.runtime.environment import EnvironmentContext
    from sqlalchemy import Connection

    from relay.migrations.turn import Turn
    from relay.sessions import Session


def run(context: EnvironmentContext) -> None:
    """Run what Alembic was asked for: by ``upgrade`` above, or by the command ``alembic``."""
    if context.is_offline_mode():
        _write(context)
    elif (ours := context.config.attributes.get("turn")) is not None:
        _revise(context, ours)
    else:
        _run_for_command(context)


def _run_for_command(context: EnvironmentContext) -> None:
    """Do for ``alembic …`` what ``upgrade`` does, with the same exit codes and no traceback."""
    try:
        wait = float(os.environ.get("OUTBOX_WAIT", WAIT))
        with turn.begun(_address(context), wait, _print) as ours:
            _revise_in_turn(context, ours)
    except OutboxError as error:
        sys.stderr.write(f"outbox: {error}\n")
        raise SystemExit(error.exit_code) from None


def _revise_in_turn(context: EnvironmentContext, turn: Turn) -> None:
    now = standing(turn.session)
    aim = _aim(context)
    if aim is None:  # alembic current, history, check …: they only read
        _revise(context, turn)
    elif now.is_at(aim):
        turn.say(now.told(now))
    else:
        with turn.taken(needless=lambda: standing(turn.session).is_at(aim)) as taken:
            if taken:
                _revise(context, turn)


def _aim(context: EnvironmentContext) -> str | None:
    """Return the revision to be reached, "base" for none at all; None for a command that only reads."""
    try:
        aim = context.get_revision_argument()
    except KeyError:
        return None
    return ",".join(aim) if isinstance(aim, tuple) else aim or "base"


def _address(context: EnvironmentContext) -> str:
    url = os.environ.get("OUTBOX_DATABASE_URL") or os.environ.get("DATABASE_URL")
    url = url or context.config.get_main_option("sqlalchemy.url")
    if not url:
        raise ConfigError(["no database: set OUTBOX_DATABASE_URL or DATABASE_URL"])
    return url


def _revise(context: EnvironmentContext, turn: Turn) -> None:
    """Run the revisions; as long as the tables they need are in use, wait and try again."""
    while True:
        try:
            _attempt(context, turn)
        except DBAPIError as error:
            if not isinstance(error.orig, (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)):
                raise
            blockers = obstacles(turn.session)
            if not turn.left:
                raise Busy(f"our tables are in use by {blockers}; gave up after {turn.wait:g} s") from error
            turn.say(f"waiting: our tables are in use by {blockers}")
            turn.pause()
        else:
            return


def _attempt(context: EnvironmentContext, turn: Turn) -> None:
    if _aim(context) is not None:
        clear_ruins(turn.session)
        make_room(turn.session)
    with _through_sqlalchemy(turn.session) as connection:
        connection.commit()  # Alembic never commits a transaction that it found open
        _configure(context, connection, turn)
        with context.begin_transaction():
            context.run_migrations()


def _configure(context: EnvironmentContext, connection: Connection, turn: Turn) -> None:
    def applied(ctx: object, step: Any, heads: object, run_args: object) -> None:
        del ctx, heads, run_args
        word = "applying" if step.is_upgrade else "undoing"
        turn.say(f"{word} {step.up_revision_id}: {step.up_revision.doc.partition(chr(10))[0]}")

    # For alembic check and --autogenerate; the indexes are told in SQL alone.
    warnings.filterwarnings("ignore", message="Did not recognize type 'xid8'")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        include_object=lambda _object, _name, kind, _reflected, _other: kind != "index",
        transaction_per_migration=True,
        on_version_apply=applied,
    )


@contextmanager
def _through_sqlalchemy(session: Session) -> Iterator[Connection]:
    """Lend the session that holds the lock to Alembic, which talks through SQLAlchemy."""
    session.autocommit = False
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: session,
        poolclass=pool.StaticPool,
        hide_parameters=True,
        use_native_hstore=False,
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        if not session.closed:
            session.autocommit = True


def _write(context: EnvironmentContext) -> None:
    """Write SQL instead of running it."""
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # else every % of the functions is doubled
        literal_binds=True,
        version_table=VERSION_TABLE,
        version_table_schema=SCHEMA,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.execute(MAKE_ROOM)
        context.run_migrations()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
