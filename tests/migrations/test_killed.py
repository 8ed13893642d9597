"""A migration is killed at seven points. The next one succeeds, and nobody had to clean up."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from helpers import eventually
from releases import Release, close_gate, locks, migrators, open_gate, revision, ruins

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database
    from processes import Process, Processes

    Migrate = Callable[..., Process]

TAKE = "SELECT pg_advisory_lock(1869968482, 4)"


def assert_next_succeeds(migrate: Migrate, database: Database) -> None:
    """Migrate again, as the next pod would."""
    process = migrate("--wait", "20")
    assert process.wait(30) == 0, process.story()
    assert revision(database) == Release.newest
    assert eventually(lambda: locks(database) == 0)
    assert ruins(database) == 0


def test_killed_while_waiting_for_the_lock(migrate: Migrate, database: Database) -> None:
    with database.connect() as holder:
        holder.execute(TAKE)
        process = migrate()
        eventually(lambda: "waiting for another migration" in process.output)
        process.kill()
    assert_next_succeeds(migrate, database)


def test_killed_with_the_lock_before_any_revision(
    processes: Processes, release: Release, empty_database: Database
) -> None:
    def migrate(*arguments: str) -> Process:
        env = {**release.env, "OUTBOX_DATABASE_URL": empty_database.dsn}
        return processes.outbox("migrate", *arguments, env=env, cwd=release.folder)

    with empty_database.connect(autocommit=False) as rival:
        rival.execute("CREATE SCHEMA outbox")  # not committed: ours waits for it
        process = migrate()
        eventually(lambda: locks(empty_database) == 1 and migrators(empty_database, "DO %CREATE SCHEMA%"))
        process.kill()
        rival.rollback()
    assert_next_succeeds(migrate, empty_database)


def test_killed_in_the_middle_of_ddl(migrate: Migrate, database: Database) -> None:
    close_gate(database, "in_ddl")
    process = migrate()
    eventually(lambda: migrators(database, "%in_ddl%"))
    process.kill()
    open_gate(database, "in_ddl")
    assert revision(database) == "0002"
    assert_next_succeeds(migrate, database)


def test_killed_between_two_revisions(migrate: Migrate, database: Database) -> None:
    close_gate(database, "between")
    process = migrate()
    eventually(lambda: migrators(database, "%between%"))
    process.kill()
    open_gate(database, "between")
    assert revision(database) == "0003"
    assert_next_succeeds(migrate, database)


def kill_while_building_an_index(migrate: Migrate, database: Database, *, half: bool) -> None:
    """Kill a migration that waits for a writer; half: before the server can end the index by itself."""
    close_gate(database, "between")
    process = migrate()
    eventually(lambda: migrators(database, "%between%"))
    with database.connect(autocommit=False) as writer:
        writer.execute("LOCK TABLE outbox.job IN ROW EXCLUSIVE MODE")
        open_gate(database, "between")
        eventually(lambda: ruins(database) == 1 and migrators(database, "CREATE INDEX CONCURRENTLY%"))
        process.kill()
        if half:
            eventually(lambda: not migrators(database))
        writer.rollback()


def test_killed_while_building_an_index_beside_writers(migrate: Migrate, database: Database) -> None:
    kill_while_building_an_index(migrate, database, half=True)
    assert ruins(database) == 1
    assert_next_succeeds(migrate, database)


def test_killed_while_the_server_ends_an_index(migrate: Migrate, database: Database) -> None:
    kill_while_building_an_index(migrate, database, half=False)
    assert_next_succeeds(migrate, database)


def test_killed_right_after_the_last_commit(migrate: Migrate, database: Database) -> None:
    process = migrate()
    eventually(lambda: revision(database) == Release.newest, every=0)
    process.kill()
    assert_next_succeeds(migrate, database)


def test_killed_after_the_last_commit_with_the_lock_in_hand(migrate: Migrate, database: Database) -> None:
    database.execute("CREATE ROLE rights_of_migrations")
    try:
        with database.connect(autocommit=False) as rival:
            close_gate(database, "between")
            process = migrate("--grant-app", "rights_of_migrations")
            eventually(lambda: migrators(database, "%between%"))
            rival.execute("GRANT USAGE ON SCHEMA outbox TO rights_of_migrations")  # ours waits for its end
            open_gate(database, "between")
            eventually(lambda: revision(database) == Release.newest and migrators(database, "GRANT%"))
            assert locks(database) == 1
            process.kill()
            rival.rollback()
        assert_next_succeeds(migrate, database)
    finally:
        database.execute("DROP OWNED BY rights_of_migrations")
        database.execute("DROP ROLE rights_of_migrations")


def test_a_kill_is_a_kill(migrate: Migrate, database: Database) -> None:
    close_gate(database, "in_ddl")
    process = migrate()
    eventually(lambda: migrators(database, "%in_ddl%"))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    eventually(lambda: not migrators(database))  # within a second, although its statement would run for ever
