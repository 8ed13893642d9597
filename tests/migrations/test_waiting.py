"""Somebody else has the lock, or our tables, for longer than anybody wants to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from releases import ALEMBIC, Release, close_gate, locks, migrators, open_gate, revision

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database
    from processes import Process, Processes

    Migrate = Callable[..., Process]

TAKE = "SELECT pg_advisory_lock(1869968482, 4)"
BUSY = 75


def test_a_frozen_migration_is_waited_for_and_named(migrate: Migrate, database: Database) -> None:
    close_gate(database, "in_ddl")
    frozen = migrate()
    (backend,) = eventually(lambda: migrators(database, "%in_ddl%"))
    frozen.stop()

    second = migrate("--wait", "1")
    assert second.wait() == BUSY, second.story()
    (line,) = second.errors
    assert f"pid {backend} " in line
    assert f":{frozen.pid}, " in line, "the application's name ends with the process's id"
    assert "pg_terminate_backend" in line

    open_gate(database, "in_ddl")
    frozen.cont()
    third = migrate()
    assert [frozen.wait(30), third.wait(30)] == [0, 0], frozen.story() + third.story()
    assert revision(database) == Release.newest
    assert frozen.output.count("applying") + third.output.count("applying") == 2


def test_alembic_waits_for_a_frozen_migration_and_names_it(
    migrate: Migrate, alembic: Migrate, database: Database
) -> None:
    close_gate(database, "in_ddl")
    frozen = migrate()
    (backend,) = eventually(lambda: migrators(database, "%in_ddl%"))
    frozen.stop()
    second = alembic("upgrade", "head", env={"OUTBOX_WAIT": "1"})
    assert second.wait() == BUSY, second.story()
    assert [line for line in second.errors if f"pid {backend} " in line] == second.errors
    open_gate(database, "in_ddl")
    frozen.cont()
    third = alembic("upgrade", "head")
    assert [frozen.wait(30), third.wait(30)] == [0, 0], third.story()
    assert revision(database) == Release.newest


def test_a_frozen_alembic_is_named_by_our_command(
    migrate: Migrate, alembic: Migrate, database: Database
) -> None:
    close_gate(database, "in_ddl")
    frozen = alembic("upgrade", "head")
    (backend,) = eventually(lambda: migrators(database, "%in_ddl%"))
    frozen.stop()
    second = migrate("--wait", "0")
    assert second.wait() == BUSY, second.story()
    assert f"pid {backend} " in second.errors[0]


@pytest.mark.parametrize("command", ["outbox", "alembic"])
def test_a_database_at_head_is_left_alone_whoever_holds_the_lock(
    processes: Processes, database: Database, command: str, request: pytest.FixtureRequest
) -> None:
    env = {"OUTBOX_DATABASE_URL": database.dsn}
    with database.connect() as holder:
        holder.execute(TAKE)
        if command == "outbox":
            process = processes.outbox("migrate", env=env)
        else:
            process = processes.start(ALEMBIC, "upgrade", "head", env=env, cwd=request.config.rootpath)
        assert process.wait() == 0, process.story()  # and not "busy": the lock is held all the while
    assert process.output == "database is at 0002, nothing to do\n"


def test_alembic_current_takes_no_lock(alembic: Migrate, database: Database) -> None:
    with database.connect() as holder:
        holder.execute(TAKE)
        process = alembic("current")
        assert process.wait() == 0, process.story()
    assert "0002" in process.output


def test_tables_in_use_are_waited_for_and_their_user_is_named(migrate: Migrate, database: Database) -> None:
    with database.connect(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM outbox.job")
        pid = reader.info.backend_pid
        process = migrate("--wait", "30")
        eventually(lambda: f"our tables are in use by pid {pid} " in process.output)
        reader.rollback()
        assert process.wait(30) == 0, process.story()
    assert revision(database) == Release.newest


def test_tables_in_use_for_too_long(migrate: Migrate, database: Database) -> None:
    with database.connect(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM outbox.job")
        process = migrate("--wait", "1")
        assert process.wait(30) == BUSY, process.story()
        assert f"our tables are in use by pid {reader.info.backend_pid} " in process.errors[0]
    assert revision(database) == "0002"
    assert eventually(lambda: locks(database) == 0)
