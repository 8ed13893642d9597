"""Twelve pods start at once, and each of them migrates first."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest
from releases import locks, revision

from outbox import schema
from outbox.errors import OutboxError
from relay.migrations.standing import standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database, Databases
    from processes import Processes

PODS, FEW_PODS = 12, 5
OURS = ("job", "leader", "taker", "meta", "alembic_version")


def race(databases: Databases, processes: Processes, count: int = PODS) -> None:
    """Let that many processes migrate one empty database."""
    with databases.empty() as database:
        env = {"OUTBOX_DATABASE_URL": database.dsn}
        pods = [processes.outbox("migrate", env=env) for _ in range(count)]
        codes = [pod.wait(60) for pod in pods]
        story = "\n".join(pod.story() for pod in pods)
        assert codes == [0] * count, story
        assert [line for pod in pods for line in pod.errors] == []
        for each, _ in schema.revisions():
            assert story.count(f"applying {each}") == 1, story
        assert revision(database) == schema.NEWEST
        assert locks(database) == 0


def test_all_that_start_at_once_succeed_and_apply_each_revision_once(
    databases: Databases, processes: Processes
) -> None:
    race(databases, processes, FEW_PODS)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twelve_at_once_twenty_times(databases: Databases, processes: Processes) -> None:
    for _ in range(20):
        race(databases, processes)


@pytest.mark.parametrize("rounds", [20, pytest.param(60, marks=pytest.mark.long)])
def test_a_look_at_the_moment_a_migration_commits_sees_no_stranger(databases: Databases, rounds: int) -> None:
    wrong: list[str] = []
    with databases.empty() as database, looking(database, wrong), database.connect() as migration:
        migration.execute("CREATE SCHEMA outbox")
        for _ in range(rounds):
            with migration.transaction():
                for table in OURS:
                    migration.execute(f"CREATE TABLE outbox.{table} AS SELECT '0001' AS version_num")
            with migration.transaction():
                for table in OURS:
                    migration.execute(f"DROP TABLE outbox.{table}")
    assert wrong == []


@contextmanager
def looking(database: Database, wrong: list[str]) -> Iterator[None]:
    """Look at the schema all the time from six sessions; what is refused goes to ``wrong``."""
    over = threading.Event()

    def look() -> None:
        with database.connect(prepare_threshold=None) as session:
            while not over.is_set():
                try:
                    standing(session)
                except OutboxError as error:
                    wrong.append(str(error))
                except psycopg.errors.UndefinedTable:
                    continue  # dropped since the first of its two statements, which no migration does

    watchers = [threading.Thread(target=look) for _ in range(6)]
    for watcher in watchers:
        watcher.start()
    yield
    over.set()
    for watcher in watchers:
        watcher.join(10)
