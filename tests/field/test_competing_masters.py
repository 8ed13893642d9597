"""Servers that all think they are master, and end over each other's versions (jobrunr#1094, #957)."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.load import Load, Shape
from field.peers import Candidate
from field.watching import Sampler, waiting
from helpers import eventually
from relays import election, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from faults.pipeline import Pipeline
    from processes import Process, Processes

    from relay.leader import Election
    from relay.term import Term

pytestmark = pytest.mark.long

CONSUMER = Path(__file__).parents[1] / "faults" / "consumer_app.py"
SERVERS = 3
CONFLICTS, JOBS = 6, 30


@pytest.mark.parametrize(
    ("count", "rounds"),
    [(12, 20), pytest.param(50, 200, marks=[pytest.mark.exhaustive, pytest.mark.timeout(300)])],
)
def test_of_many_elections_at_once_one_is_won(
    database: Database, figures: Figures, count: int, rounds: int
) -> None:
    candidates = [election(settings(database)) for _ in range(count)]
    with Sampler(database) as sampler, ThreadPoolExecutor(count) as pool:
        terms = [held_at_once(pool, candidates) for _ in range(rounds)]
    for each in candidates:
        each.close()
    assert terms == [[number] for number in range(1, rounds + 1)]
    assert sampler.most == 1
    figures.say(f"{count} candidates, {rounds} elections, one master in each; {sampler}")


def held_at_once(pool: ThreadPoolExecutor, candidates: list[Election]) -> list[int]:
    """Let all of them stand at the same moment; return the terms that were won."""
    barrier = threading.Barrier(len(candidates), timeout=30)

    def stand(candidate: Election) -> Term | None:
        barrier.wait()
        return candidate.campaign()

    won = [term for term in pool.map(stand, candidates) if term is not None]
    for term in won:
        term.release()
    return [term.number for term in won]


def test_relays_that_start_at_once_and_are_killed_never_lead_together(pipeline: Pipeline) -> None:
    with Sampler(pipeline.database) as sampler:
        pipeline.fleet.start(5)
        with Load(pipeline.database, Shape(rate=200)) as load:
            for _ in range(2):
                leader = pipeline.fleet.wait_leader()
                pipeline.collector.first_of(leader.term)
                leader.process.kill()
                pipeline.fleet.wait_leader(after=leader.term)
            load.wait_committed(50)
        pipeline.settle(load.account)
    assert sampler.most == 1
    pipeline.figures.say(f"5 relays at once, 2 leaders killed; {sampler}")


def test_control_the_earliest_stamp_elects_whoever_commits_before_it(
    database: Database, figures: Figures
) -> None:
    """What was stamped first may commit last: until then everybody else looks, and finds somebody else."""
    database.execute("CREATE TABLE peer_server (name text, first_heartbeat timestamptz)")
    candidates = [Candidate(database, str(number)) for number in range(5)]
    for each in candidates:
        each.announce()
    masters = []
    for each in reversed(candidates):
        each.commit()
        masters.append(each.is_master())
        each.commit()
    assert masters == [True] * 5
    assert [each.is_master() for each in candidates] == [True, *[False] * 4], "the next poll mends it"
    for each in candidates:
        each.close()
    figures.say(f"5 servers at once, {sum(masters)} masters")


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


def test_a_version_that_moves_under_a_handler_ends_no_consumer(
    shop: Shop, processes: Processes, figures: Figures
) -> None:
    env = {"DATABASE_URL": shop.database.url, "BROKER_URL": shop.broker_url}
    consumers = [processes.start(sys.executable, CONSUMER, env=env) for _ in range(SERVERS)]
    for each in consumers:
        each.wait_event("consumer_started", 30)
    contested = [shop.job() for _ in range(CONFLICTS)]
    with shop.database.connect(autocommit=False) as operator:
        operator.execute(
            "UPDATE outbox.job SET state = 'cancelled', version = version + 1 WHERE id = ANY(%s)",
            (contested,),
        )
        shop.send_all(contested)
        eventually(
            lambda: waiting(shop.database) == CONFLICTS, 30
        )  # their handlers are over: theirs is the next
        operator.commit()
    shop.send_all([shop.job() for _ in range(JOBS)])
    eventually(lambda: shop.effects() == JOBS, 30)
    superseded = [event for each in consumers for event in each.events if event.get("result") == "superseded"]
    assert len(superseded) == CONFLICTS
    assert all(each.running for each in consumers)
    cancelled = "SELECT count(*) FROM effect e JOIN outbox.job j ON j.id = e.job_id WHERE state = 'cancelled'"
    assert shop.value(cancelled) == 0
    figures.say(f"{CONFLICTS} conflicts: 0 of {SERVERS} consumers ended, {JOBS} of {JOBS} jobs done after")


def test_control_a_version_that_is_an_exception_ends_the_server(
    database: Database, peer: Callable[..., Process], figures: Figures
) -> None:
    database.execute("CREATE TABLE peer_job (id int PRIMARY KEY, version int, done bool)")
    database.execute("INSERT INTO peer_job VALUES (1, 1, false)")
    with database.connect(autocommit=False) as gate:
        gate.execute("SELECT FROM peer_job FOR UPDATE")
        servers = [peer(database, "serve") for _ in range(SERVERS)]
        eventually(lambda: waiting(database) == SERVERS, 30)
    codes = sorted(each.wait(60) for each in servers)
    ended = [each for each in servers if any("ConcurrentModification" in line for line in each.errors)]
    assert codes == [0, *[1] * (SERVERS - 1)]
    assert len(ended) == SERVERS - 1
    figures.say(f"1 conflict: {len(ended)} of {SERVERS} servers ended")
