"""Which revision a database may have, and how it gets there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from failing import WRONG, fails
from releases import ALEMBIC, ROOT, Release, revision
from roles import role

from outbox import schema
from outbox.errors import Misuse, WrongEnvironment
from relay import migrations, sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database, Databases
    from processes import Process, Processes

    Migrate = Callable[..., Process]


def picture(database: Database) -> list[tuple[object, ...]]:
    """Return what is in the schema: tables with columns, indexes, functions, triggers, constraints."""
    return database.execute(
        """
        SELECT 'column', table_name, column_name::text,
               data_type::text || is_nullable || coalesce(column_default, '')
          FROM information_schema.columns WHERE table_schema = 'outbox'
        UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'outbox'
        UNION ALL SELECT 'function', proname, '', prosrc FROM pg_proc
                   WHERE pronamespace = 'outbox'::regnamespace
        UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
                   WHERE NOT tgisinternal
        UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
                    FROM pg_constraint WHERE connamespace = 'outbox'::regnamespace
        ORDER BY 1, 2, 3, 4
        """
    )


def test_the_newest_revision_is_the_one_that_the_code_names(database: Database) -> None:
    assert [name for name, _ in schema.revisions()][-1] == schema.NEWEST
    assert database.value("SELECT revision FROM outbox.meta") == schema.NEWEST
    assert revision(database) == schema.NEWEST


def test_the_newest_schema_serves_the_release_before(database: Database) -> None:
    assert database.value("SELECT min_reader FROM outbox.meta") == schema.OLDEST


def test_a_schema_that_is_one_behind_is_brought_up(
    processes: Processes, database: Database, empty_database: Database
) -> None:
    address = {"OUTBOX_DATABASE_URL": database.dsn}
    down = processes.start(ALEMBIC, "downgrade", schema.OLDEST, env=address, cwd=ROOT)
    assert down.wait(30) == 0, down.story()
    job_id = database.value("SELECT outbox.add('a', '1')")
    up = processes.outbox("migrate", env=address)
    assert up.wait(30) == 0, up.story()
    assert [line.split(":")[0] for line in up.output.splitlines()] == ["applying 0002", "database is at 0002"]
    assert database.value("SELECT state FROM outbox.job WHERE id = %s", job_id) == "pending"
    migrations.upgrade(empty_database.dsn)
    assert picture(database) == picture(empty_database)


def test_up_down_up_gives_the_same_schema(alembic: Migrate, database: Database) -> None:
    assert alembic("upgrade", "head").wait(30) == 0
    newest = picture(database)
    down = alembic("downgrade", "base")
    assert down.wait(30) == 0, down.story()
    left = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'outbox'")
    assert left == [("alembic_version",)]
    assert database.execute("SELECT 1 FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace") == []
    assert alembic("upgrade", "head").wait(30) == 0
    assert picture(database) == newest


def test_one_step_back_and_forth(alembic: Migrate, migrate: Migrate, database: Database) -> None:
    before = picture(database)
    assert migrate().wait(30) == 0
    assert alembic("downgrade", "-2").wait(30) == 0
    assert revision(database) == schema.NEWEST
    assert picture(database) == before


def test_the_printed_sql_makes_the_same_schema(
    processes: Processes, database: Database, empty_database: Database
) -> None:
    process = processes.outbox("migrate", "--sql", "--grant-app", "postgres")
    assert process.wait() == 0, process.story()
    with empty_database.connect() as connection:
        connection.execute(process.output.encode())
    assert picture(empty_database) == picture(database)
    again = processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": empty_database.dsn})
    assert again.wait() == 0
    assert again.output == f"database is at {schema.NEWEST}, nothing to do\n"


def test_sql_prints_what_a_database_lacks(migrate: Migrate, database: Database) -> None:
    lacking = migrate("--sql")
    assert lacking.wait() == 0, lacking.story()
    assert "ADD COLUMN shade" in lacking.output
    assert "CREATE TABLE" not in lacking.output
    assert migrate().wait(30) == 0
    nothing = migrate("--sql")
    assert nothing.wait() == 0
    assert nothing.output == "-- the schema is at 0004: nothing is missing\n"


def test_check_changes_nothing_and_tells_by_its_code(migrate: Migrate, empty_database: Database) -> None:
    address = {"OUTBOX_DATABASE_URL": empty_database.dsn}
    behind = migrate("--check", env=address)
    assert behind.wait() == 1
    assert behind.output == "database is at no revision, not at 0004: outbox migrate\n"
    assert empty_database.value("SELECT to_regnamespace('outbox')::text") is None
    assert migrate(env=address).wait(30) == 0
    there = migrate("--check", env=address)
    assert there.wait() == 0
    assert there.output == "database is at 0004, nothing to do\n"


@pytest.mark.parametrize("command", [("outbox", "migrate"), ("alembic", "upgrade", "head")])
def test_older_code_leaves_a_newer_schema_alone(
    migrate: Migrate, processes: Processes, database: Database, command: tuple[str, ...]
) -> None:
    assert migrate().wait(30) == 0
    env = {"OUTBOX_DATABASE_URL": database.dsn}
    if command[0] == "outbox":
        older = processes.outbox(*command[1:], env=env)
    else:
        older = processes.start(ALEMBIC, *command[1:], env=env, cwd=ROOT)
    assert older.wait() == 0, older.story()
    assert older.output == "database is ahead (0004), nothing to do\n"
    assert revision(database) == Release.newest


def test_a_newer_schema_is_served_where_it_allows_it(database: Database) -> None:
    database.execute("UPDATE outbox.meta SET revision = '0007'")
    with sessions.opened(database.dsn, "test") as session:
        migrations.check_schema(session)
        session.execute("UPDATE outbox.meta SET min_reader = '0003'")
        with pytest.raises(WrongEnvironment, match="install a newer outbox-relay"):
            migrations.check_schema(session)


def test_a_database_without_the_schema_is_no_riddle(empty_database: Database) -> None:
    with sessions.opened(empty_database.dsn, "test") as session:
        with pytest.raises(WrongEnvironment, match="run outbox migrate"):
            migrations.check_schema(session)
        session.execute("CREATE SCHEMA outbox")
        with pytest.raises(WrongEnvironment, match="run outbox migrate"):
            migrations.check_schema(session)


def test_a_version_that_is_none_of_ours_stops_us(database: Database) -> None:
    database.execute("UPDATE outbox.alembic_version SET version_num = '0000x'")
    with pytest.raises(WrongEnvironment, match="'0000x', which is no revision of ours"):
        migrations.upgrade(database.dsn)


def test_a_schema_that_an_administrator_made_needs_no_right_on_the_database(
    empty_database: Database, processes: Processes
) -> None:
    with role(empty_database) as few:
        env = {"OUTBOX_DATABASE_URL": few.url("psycopg")}
        refused = processes.outbox("migrate", env=env)
        assert refused.wait() == 78, refused.story()
        (line,) = refused.errors
        assert line.startswith(f"outbox: database: permission denied for database {empty_database.name}; ")
        assert line.endswith("migrate with a role that owns the schema outbox, or may create it")
        with empty_database.connect() as connection:
            connection.execute(f"CREATE SCHEMA outbox AUTHORIZATION {few.name}")
        allowed = processes.outbox("migrate", env=env)
        assert allowed.wait() == 0, allowed.story()
        with few.connect() as connection:
            connection.execute("SELECT outbox.add('a', '1')")


def test_grants_are_given_after_the_schema_is_made(empty_database: Database, processes: Processes) -> None:
    with role(empty_database) as shop:
        env = {"OUTBOX_DATABASE_URL": empty_database.dsn}
        pods = [processes.outbox("migrate", "--grant-app", shop.name, env=env) for _ in range(4)]
        assert [pod.wait(30) for pod in pods] == [0] * 4, [pod.story() for pod in pods]
        with shop.connect() as connection:
            connection.execute("SELECT outbox.add('a', '1')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT payload FROM outbox.job")


def test_a_role_that_does_not_exist_is_named(database: Database, processes: Processes) -> None:
    process = processes.outbox(
        "migrate", "--grant-app", "nobody_at_all", env={"OUTBOX_DATABASE_URL": database.dsn}
    )
    assert process.wait() == 1
    assert process.errors == ['outbox: database: role "nobody_at_all" does not exist']


def test_threads_of_one_process_migrate_one_after_another(empty_database: Database) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(migrations.upgrade, empty_database.dsn, say=said.append) for _ in range(6)]
        for run in runs:
            run.result(60)
    applied = [line.split()[1].rstrip(":") for line in said if line.startswith("applying")]
    assert applied == [name for name, _ in schema.revisions()]
    assert revision(empty_database) == schema.NEWEST


def test_to_a_revision_that_does_not_exist(database: Database) -> None:
    with pytest.raises(Misuse, match="no revision '0009'; it has 0001, 0002"):
        schema.upgrade(None, to="0009")  # type: ignore[arg-type]


def test_what_has_not_the_form_of_a_revision_is_not_ahead(processes: Processes, database: Database) -> None:
    database.execute("UPDATE outbox.alembic_version SET version_num = 'junk'")
    process = processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": database.dsn})
    assert "'junk', which is no revision of ours" in fails(process, WRONG)


def test_a_table_of_our_name_that_is_not_ours(processes: Processes, empty_database: Database) -> None:
    empty_database.execute("CREATE SCHEMA outbox")
    empty_database.execute("CREATE TABLE outbox.job (theirs text)")
    process = processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": empty_database.dsn})
    assert "the schema outbox holds a table job that is not ours" in fails(process, WRONG)
    assert (
        empty_database.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'outbox'::regnamespace") == 1
    )


def test_a_database_of_another_encoding(processes: Processes, databases: Databases) -> None:
    with databases.encoded("SQL_ASCII") as database:
        process = processes.outbox("migrate", env={"OUTBOX_DATABASE_URL": database.dsn})
        assert "encoding is SQL_ASCII, and must be UTF8" in fails(process, WRONG)
