"""Twelve pods start at once, and each of them migrates first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from releases import locks, revision

from outbox import schema

if TYPE_CHECKING:
    from databases import Databases
    from processes import Processes

PODS = 12


def race(databases: Databases, processes: Processes) -> None:
    """Let twelve processes migrate one empty database."""
    with databases.empty() as database:
        env = {"OUTBOX_DATABASE_URL": database.dsn}
        pods = [processes.outbox("migrate", env=env) for _ in range(PODS)]
        codes = [pod.wait(60) for pod in pods]
        story = "\n".join(pod.story() for pod in pods)
        assert codes == [0] * PODS, story
        assert [line for pod in pods for line in pod.errors] == []
        for each, _ in schema.revisions():
            assert story.count(f"applying {each}") == 1, story
        assert revision(database) == schema.NEWEST
        assert locks(database) == 0


def test_twelve_at_once_all_succeed_and_apply_each_revision_once(
    databases: Databases, processes: Processes
) -> None:
    for _ in range(3):
        race(databases, processes)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_twelve_at_once_twenty_times(databases: Databases, processes: Processes) -> None:
    for _ in range(20):
        race(databases, processes)
