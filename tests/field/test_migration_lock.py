"""The lock of a migration, left behind by a pod that was killed (jobrunr#1139, liquibase#1311)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from faults.load import backlog
from field.peers import BUSY
from field.watching import busy
from helpers import eventually
from releases import Release, close_gate, locks, migrators, open_gate, revision

from outbox.database import LOCK_CLASS, LOCK_MIGRATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database
    from faults.figures import Figures
    from faults.pipeline import Pipeline
    from processes import Process, Processes

    Start = Callable[..., Process]

pytestmark = pytest.mark.long

KILLS = 3
GATE, AT_THE_GATE = "in_ddl", "%in_ddl%"
TAKE = f"SELECT pg_advisory_lock({LOCK_CLASS}, {LOCK_MIGRATE})"


@pytest.fixture
def migrate(processes: Processes, release: Release, database: Database) -> Start:
    """Start ``outbox migrate`` of the release after this one on ``database``, which has this one's schema."""

    def start(*arguments: str) -> Process:
        env = {**release.env, "OUTBOX_DATABASE_URL": database.dsn}
        return processes.outbox("migrate", *arguments, env=env, cwd=release.folder)

    return start


def test_a_migration_that_is_killed_again_and_again_needs_no_hand(
    migrate: Start, database: Database, figures: Figures
) -> None:
    close_gate(database, GATE)
    freed = []
    for _ in range(KILLS):
        process = migrate()
        eventually(lambda: migrators(database, AT_THE_GATE), 30)
        assert locks(database) == 1
        process.kill()
        killed_at = time.monotonic()
        eventually(lambda: locks(database) == 0)  # although its statement would run for ever
        freed.append(time.monotonic() - killed_at)
        eventually(lambda: not migrators(database))
    open_gate(database, GATE)
    began = time.monotonic()
    following = migrate("--wait", "0")
    assert following.wait(30) == 0, following.story()
    took = time.monotonic() - began
    assert revision(database) == Release.newest
    assert eventually(lambda: locks(database) == 0)
    figures.say(
        f"killed {KILLS} times inside its DDL: lock free {max(freed):.2f} s later at most, "
        f"the next start migrates in {took:.2f} s, nothing was deleted by hand"
    )


def test_control_a_row_that_is_the_lock_locks_everybody_out(
    peer: Start, database: Database, figures: Figures
) -> None:
    kill_a_peer_at_the_gate(peer, database)
    starts = [peer(database, "migrate") for _ in range(KILLS)]
    assert [each.wait(60) for each in starts] == [BUSY] * KILLS, starts[0].story()
    assert all(each.errors == ["another migration is running"] for each in starts)

    database.execute("DELETE FROM peer_lock")  # somebody is woken up at night, and does it
    assert peer(database, "migrate").wait(60) == 0
    assert database.value("SELECT count(*) FROM peer_lock") == 0, "one that lives gives its row back"
    figures.say(f"killed once inside its DDL: {KILLS} of {KILLS} starts refused, until the row was deleted")


def test_a_relay_starts_at_head_while_psql_holds_the_lock_for_ever(pipeline: Pipeline) -> None:
    with pipeline.database.connect(application_name="psql") as psql:
        psql.execute(TAKE)
        began = time.time()
        pipeline.fleet.start()
        leader = pipeline.fleet.wait_leader()
        pipeline.settle(backlog(pipeline.database, 100))
        assert locks(pipeline.database) > 1, "psql has it still"
    pipeline.figures.say(f"the relay leads {leader.since - began:.2f} s after its start")


def test_control_a_row_stops_a_start_that_has_nothing_to_migrate(
    peer: Start, database: Database, figures: Figures
) -> None:
    assert peer(database, "migrate").wait(60) == 0
    kill_a_peer_at_the_gate(peer, database)
    refused = peer(database, "migrate")
    assert refused.wait(60) == BUSY, refused.story()
    figures.say("at head, with the row left behind: the start is refused")


def kill_a_peer_at_the_gate(peer: Start, database: Database) -> None:
    """Kill a peer's migration in the same place as ours, and let the server end what it had begun."""
    close_gate(database, GATE)
    process = peer(database, "migrate")
    eventually(lambda: busy(database, AT_THE_GATE), 30)
    process.kill()
    open_gate(database, GATE)
    eventually(lambda: not busy(database, AT_THE_GATE))
