"""A relay and a consumer stopped at each point that something depends on, killed or frozen: nothing is lost.

How often: ``OUTBOX_TEST_CRASHES`` for the exhaustive run, three times without it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest
from consuming import Shop
from faults.checker import unmarked_by_term
from faults.load import backlog
from helpers import eventually

from relay.theatre.judge import Account, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.pipeline import Pipeline
    from processes import Process, Processes

    from relay.theatre.judge import Report

CRASHING = Path(__file__).with_name("crashing.py")
CONSUMER = Path(__file__).with_name("consumer_app.py")
JOBS = 300
"""Fewer than a window; a term reads a chunk of them first, and then several chunks at once."""
JOBS_TO_DO = 20
PATIENCE = ("--heartbeat", "0.2", "--stale", "4")
OFTEN = int(os.environ.get("OUTBOX_TEST_CRASHES", "3"))
RELAY = [f"P{number}" for number in range(11)]
CLEAN = {"P0", "P1", "P2", "P3", "P4", "P10"}
"""Nothing is on its way there: no job may come twice."""
CONSUMING = [f"C{number}" for number in range(1, 6)]
QUICK = {("P5", "SIGKILL"), ("P9", "SIGKILL"), ("P7", "SIGSTOP"), ("C4", "SIGKILL"), ("C3", "SIGSTOP")}
"""The ones that every run has, once."""


class Case(NamedTuple):
    """What stops where, and how often."""

    point: str
    signal: signal.Signals
    times: int

    def __str__(self) -> str:
        return f"{self.point}, {self.signal.name}, {self.times} times"


def cases(points: list[str]) -> list[Any]:
    """Each point with each signal: in the exhaustive run as often as was asked for, a few once in any."""
    every = [(point, number) for point in points for number in (signal.SIGKILL, signal.SIGSTOP)]
    often = [Case(*case, OFTEN) for case in every]
    quick = [Case(*case, 1) for case in every if (case[0], case[1].name) in QUICK]
    return [
        *(pytest.param(case, id=f"{case.point}-{case.signal.name}") for case in quick),
        *(
            pytest.param(case, marks=pytest.mark.exhaustive, id=f"{case.point}-{case.signal.name}-often")
            for case in often
        ),
    ]


@pytest.mark.timeout(60 + 30 * OFTEN)
@pytest.mark.parametrize("case", cases(RELAY))
def test_a_relay_that_stops_at_any_point_loses_nothing(
    case: Case, pipeline: Pipeline, processes: Processes
) -> None:
    account = Account()
    pipeline.fleet.start(1, *PATIENCE)
    pipeline.fleet.wait_leader()
    for _ in range(case.times):
        crash(pipeline, processes, account, case)
    report = judge(account, pipeline.collector.deliveries)
    pipeline.figures.say(f"{case}: {report}")
    assert not report.broken, report
    check_duplicates(pipeline, report, case.point)


def crash(pipeline: Pipeline, processes: Processes, account: Account, case: Case) -> None:
    """Let a relay follow the leader and stop at the point; the next one sends what is left."""
    leader = pipeline.fleet.wait_leader()
    addresses = ("--database-url", pipeline.database.dsn, "--broker-url", pipeline.broker_url)
    options = ("relay", *addresses, *PATIENCE, "--log", "json")
    victim = processes.start(sys.executable, CRASHING, case.point, str(int(case.signal)), *options)
    if case.point != "P0":  # there it stops before it has seen who leads
        victim.wait_event("broker_connected")
    leader.process.terminate()
    assert leader.process.wait() == 0, leader.process.story()
    account.committed.extend(backlog(pipeline.database, JOBS).committed)
    wait_stopped(victim, case.signal)
    pipeline.fleet.start(1, *PATIENCE)
    pipeline.fleet.wait_leader(after=leader.term)
    pipeline.collector.wait_for(account.ids)
    pipeline.wait_published()
    victim.cont()
    if case.signal == signal.SIGSTOP and case.point != "P0":
        victim.wait_event("leadership_given_up", timeout=30)
    victim.terminate()
    assert victim.wait() in (0, -case.signal), victim.story()


def wait_stopped(process: Process, number: signal.Signals) -> None:
    """Wait until the signal has done its work."""
    if number == signal.SIGKILL:
        assert process.wait(30) == -number, process.story()
    else:
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, 30, every=0.02)


def check_duplicates(pipeline: Pipeline, report: Report, point: str) -> None:
    """A job comes twice only if it was sent and not marked, and never where nothing was on its way."""
    unmarked = unmarked_by_term(pipeline.database, pipeline.collector.deliveries)
    assert set(report.duplicates) <= set().union(*unmarked.values()), report
    if point in CLEAN:
        assert not report.duplicates, report


@pytest.fixture
def shop(pipeline: Pipeline) -> Iterator[Shop]:
    made = Shop(pipeline.database, pipeline.broker_url)
    yield made
    made.close()


@pytest.mark.timeout(60 + 40 * OFTEN)
@pytest.mark.parametrize("case", cases(CONSUMING))
def test_a_consumer_that_stops_at_any_point_repeats_and_loses_no_effect(
    case: Case, pipeline: Pipeline, processes: Processes, shop: Shop
) -> None:
    pipeline.fleet.start(1)
    pipeline.fleet.wait_leader()
    with consuming(shop, processes):
        pass  # the queue is there from now on
    for _ in range(case.times):
        fall(shop, processes, case)
    jobs = JOBS_TO_DO * case.times
    assert shop.value("SELECT count(*) FROM outbox.job WHERE state = 'succeeded'") == jobs
    assert shop.value("SELECT count(*) FROM (SELECT DISTINCT job_id FROM effect) x") == jobs
    assert shop.effects() == jobs
    highest = shop.value("SELECT max(attempt) FROM outbox.job")
    pipeline.figures.say(f"{case}: {jobs} jobs, {jobs} effects, highest attempt {highest}")


def fall(shop: Shop, processes: Processes, case: Case) -> None:
    """Let a consumer stop at the point, and another one do what it leaves."""
    victim = processes.start(
        sys.executable, CRASHING, case.point, str(int(case.signal)), env=environment(shop)
    )
    victim.wait_event("consumer_started")
    for _ in range(JOBS_TO_DO):
        add(shop, "report" if case.point == "C2" else "order.paid")
    wait_stopped(victim, case.signal)
    with consuming(shop, processes):
        victim.cont()  # what it held when it was frozen is done by one of the two
        eventually(lambda: unfinished(shop) == 0, 60, every=0.1)
        victim.terminate()
        assert victim.wait(30) in (0, -case.signal), victim.story()


def add(shop: Shop, kind: str) -> None:
    with shop.database.connect() as connection:
        connection.execute("SELECT outbox.add(%s, '{}')", (kind,))


def unfinished(shop: Shop) -> int:
    return int(shop.value("SELECT count(*) FROM outbox.job WHERE state <> 'succeeded'"))


def environment(shop: Shop) -> dict[str, str]:
    return {"DATABASE_URL": shop.database.url, "BROKER_URL": shop.broker_url}


@contextmanager
def consuming(shop: Shop, processes: Processes) -> Iterator[None]:
    """A consumer that nothing happens to."""
    process = processes.start(sys.executable, CONSUMER, env=environment(shop))
    process.wait_event("consumer_started")
    yield
    process.terminate()
    assert process.wait(30) == 0, process.story()
