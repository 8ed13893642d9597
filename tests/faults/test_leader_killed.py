"""The leader is killed under load, again and again: nothing is lost, and hardly anything comes twice."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.checker import unmarked_by_term
from faults.effects import check_effects
from faults.load import Load, Shape, backlog

from relay.theatre.judge import judge

if TYPE_CHECKING:
    from faults.pipeline import Pipeline
    from processes import Processes

    from relay.theatre.judge import Account, Report

CONSUMER = Path(__file__).with_name("consumer_app.py")
WINDOW = 1000


@pytest.mark.measured
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_a_killed_leader_loses_nothing(kills: int, pipeline: Pipeline) -> None:
    pipeline.fleet.start(3)
    with Load(pipeline.database, Shape(rate=500)) as load:
        gaps = []
        for _ in range(kills):
            gaps.append(kill_leader(pipeline, messages=300))
            pipeline.fleet.start()
    check_duplicates(pipeline, pipeline.settle(load.account))
    pipeline.figures.within(1.0, gaps, "next publish after a kill")


@pytest.mark.measured
@pytest.mark.parametrize(("kills", "jobs"), [(2, 6_000), pytest.param(5, 50_000, marks=pytest.mark.long)])
def test_a_leader_killed_with_a_backlog_loses_nothing(kills: int, jobs: int, pipeline: Pipeline) -> None:
    pipeline.fleet.start(kills + 1)
    pipeline.fleet.wait_standbys(kills)
    account = backlog(pipeline.database, jobs)
    gaps = [kill_leader(pipeline, messages=jobs // (2 * kills), account=account) for _ in range(kills)]
    check_duplicates(pipeline, pipeline.settle(account))
    pipeline.figures.within(1.0, gaps, "next publish after a kill")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kills", "rate"), [(2, 100.0), pytest.param(20, 500.0, marks=pytest.mark.long)])
def test_a_killed_leader_leaves_every_effect_exactly_once(
    kills: int, rate: float, pipeline: Pipeline, processes: Processes
) -> None:
    shop = Shop(pipeline.database, pipeline.broker_url)
    env = {"DATABASE_URL": shop.database.url, "BROKER_URL": shop.broker_url, "CONCURRENCY": "4"}
    for _ in range(2):
        processes.start(sys.executable, CONSUMER, env=env).wait_event("consumer_started")
    pipeline.fleet.start(3)
    with Load(pipeline.database, Shape(rate=rate)) as load:
        for _ in range(kills):
            kill_leader(pipeline, messages=300)
            pipeline.fleet.start()
    check_effects(pipeline.database, load.account, pipeline.figures, timeout=100)
    report = judge(load.account, pipeline.collector.deliveries)
    pipeline.figures.say(report)
    assert not report.broken, report
    shop.close()


@pytest.mark.measured
@pytest.mark.parametrize("stops", [4, pytest.param(12, marks=pytest.mark.long)])
def test_a_leader_that_is_asked_to_stop_duplicates_nothing(stops: int, pipeline: Pipeline) -> None:
    pipeline.fleet.start(3)
    with Load(pipeline.database, Shape(rate=500)) as load:
        gaps = [hand_over(pipeline) for _ in range(stops)]
    report = pipeline.settle(load.account)
    assert not report.duplicates, report
    pipeline.figures.within(0.1, gaps, "the standby leads after the release")


def kill_leader(pipeline: Pipeline, messages: int, account: Account | None = None) -> float:
    """Kill the leader after up to ``messages``; return the seconds to its successor's first one.

    With an account nobody else adds jobs, and as many are added then: a leader that is ahead of the collector
    may have published all that there was, and its successor would have nothing to send.
    """
    leader = pipeline.fleet.wait_leader()
    amid(pipeline, leader.term, messages)
    pipeline.fleet.wait_standbys()
    killed_at = time.monotonic()
    leader.process.kill()
    if account is not None:
        account.committed.extend(backlog(pipeline.database, messages).committed)
    return pipeline.collector.first_of(leader.term + 1).at - killed_at


def hand_over(pipeline: Pipeline) -> float:
    """Ask the leader to stop; return the seconds from the release of its lock to the next term."""
    leader = pipeline.fleet.wait_leader()
    amid(pipeline, leader.term, messages=300)
    pipeline.fleet.wait_standbys()
    with pipeline.database.connect() as listener:
        listener.execute("LISTEN outbox_leader")
        leader.process.terminate()
        pipeline.fleet.start()
        assert list(listener.notifies(timeout=20, stop_after=1)), leader.process.story()
        released_at = time.time()
    assert leader.process.wait() == 0, leader.process.story()
    return pipeline.fleet.wait_leader(after=leader.term).since - released_at


def amid(pipeline: Pipeline, term: int, messages: int) -> None:
    """Wait until the term has sent a random number of messages up to ``messages``."""
    first = pipeline.collector.first_of(term)
    before = pipeline.collector.deliveries.index(first)
    pipeline.collector.wait_count(before + random.randint(1, messages))


def check_duplicates(pipeline: Pipeline, report: Report) -> None:
    """A job may come twice only if a leader sent it and did not live to mark it."""
    unmarked = unmarked_by_term(pipeline.database, pipeline.collector.deliveries)
    pipeline.figures.say(f"sent and unmarked at the kills: {[len(ids) for ids in unmarked.values()]}")
    assert report.duplicates.total() <= sum(len(ids) for ids in unmarked.values()), report
    assert set(report.duplicates) <= set().union(*unmarked.values()), report
    assert all(len(ids) <= WINDOW for ids in unmarked.values()), report
