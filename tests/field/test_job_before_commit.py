"""A worker gets a job before its transaction has committed, or never (netbox#18880, netbox-branching#193)."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from faults.load import backlog
from field.peers import KIND, publish
from field.watching import waiting
from field.worker import Worker
from helpers import eventually
from sqlalchemy import text
from sqlalchemy.orm import Session

import outbox

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.figures import Figures
    from faults.pipeline import Pipeline
    from processes import Process

    Start = Callable[..., Process]

pytestmark = pytest.mark.long

ORDERS = 50


@pytest.fixture
def worker(database: Database, amqp_url: str) -> Iterator[Worker]:
    with Worker(database, amqp_url) as at_work:
        yield at_work


def place(session: Session, number: int) -> uuid.UUID:
    """Take an order, as our applications do."""
    session.execute(text("INSERT INTO orders VALUES (:id, 'placed')"), {"id": number})
    job = outbox.add(session, KIND, {"order": number})
    session.flush()
    return job


@pytest.mark.parametrize("seconds", [2.0, pytest.param(5.0, marks=pytest.mark.exhaustive)])
def test_a_transaction_that_is_open_sends_nothing_and_then_every_row_is_found(
    seconds: float, pipeline: Pipeline, worker: Worker
) -> None:
    pipeline.fleet.start()
    with Session(pipeline.database.engine) as session:
        jobs = {place(session, number) for number in range(ORDERS)}
        pipeline.collector.wait_for(backlog(pipeline.database, 100).ids)  # the relay works beside it
        threading.Event().wait(seconds)
        early = (len(jobs & pipeline.collector.seen), len(worker.saved))
        session.commit()
    eventually(lambda: len(worker.saved) >= ORDERS, 30)
    pipeline.collector.wait_for(jobs)
    assert early == (0, 0)
    assert worker.counts == {"found": ORDERS}
    pipeline.figures.say(
        f"open for {seconds:g} s: {early[1]} of {ORDERS} jobs sent; after COMMIT: {dict(worker.counts)}"
    )


def test_what_is_rolled_back_is_never_sent(pipeline: Pipeline, worker: Worker) -> None:
    pipeline.fleet.start()
    committed, undone = [], 0
    for number in range(0, 3 * ORDERS, 3):
        with Session(pipeline.database.engine) as session:
            place(session, number)
            session.rollback()
        with Session(pipeline.database.engine) as session:
            committed.append(place(session, number + 1))
            nested = session.begin_nested()
            place(session, number + 2)
            nested.rollback()
            session.commit()
        undone += 2
    eventually(lambda: len(worker.saved) >= ORDERS, 30)
    pipeline.collector.wait_for(committed)
    pipeline.wait_published()
    assert pipeline.collector.seen == set(committed)
    assert worker.counts == {"found": ORDERS}
    pipeline.figures.say(f"{undone} jobs rolled back, half of them to a savepoint: 0 sent, {ORDERS} others")


@pytest.mark.parametrize(
    "kills", [10, pytest.param(200, marks=[pytest.mark.exhaustive, pytest.mark.timeout(300)])]
)
def test_an_application_that_is_killed_right_after_its_commit_loses_nothing(
    kills: int, pipeline: Pipeline, worker: Worker, peer: Start
) -> None:
    pipeline.fleet.start()
    application = peer(pipeline.database, "shop", "outbox", "0", str(kills), "killed")
    assert application.wait(200) == 0, application.story()
    assert application.output.split() == [str(-signal.SIGKILL)] * kills
    eventually(lambda: len(worker.saved) >= kills, 30)
    assert pipeline.database.value("SELECT count(*) FROM orders") == kills
    assert worker.counts == {"found": kills}
    pipeline.figures.say(f"killed after COMMIT {kills} times: {kills} orders, {len(worker.saved)} delivered")


def test_control_a_job_that_is_sent_inside_the_transaction_finds_no_row(
    database: Database, amqp_url: str, worker: Worker, figures: Figures
) -> None:
    """The worker updates nothing and inserts instead, and waits for a key that it cannot see."""
    for number, end in enumerate(("COMMIT", "ROLLBACK")):
        with database.connect(autocommit=False) as request:
            request.execute("INSERT INTO orders VALUES (%s, 'placed')", (number,))
            publish(amqp_url, number)
            eventually(lambda: waiting(database) == 1)
            request.execute(end)
        eventually(lambda number=number: len(worker.saved) > number)
    assert worker.saved == [(0, "UniqueViolation"), (1, "inserted")]
    assert database.execute("SELECT id, state FROM orders ORDER BY id") == [(0, "placed"), (1, "running")]
    figures.say("sent before COMMIT: the worker fails; before ROLLBACK: it does an order that never was")


def test_control_a_job_that_is_sent_after_the_commit_dies_with_the_application(
    database: Database, amqp_url: str, worker: Worker, peer: Start, figures: Figures
) -> None:
    kills = ORDERS // 5
    for first, end in ((0, "killed"), (kills, "lives")):
        application = peer(database, "shop", "hook", str(first), str(kills), end, BROKER_URL=amqp_url)
        assert application.wait(60) == 0, application.story()
    eventually(lambda: len(worker.saved) >= kills, 30)
    assert database.value("SELECT count(*) FROM orders") == 2 * kills
    # One queue, one worker: whatever the first ones had sent would have come before.
    assert worker.saved == [(number, "found") for number in range(kills, 2 * kills)]
    figures.say(f"killed after COMMIT {kills} times: {kills} orders, 0 delivered; not killed: all {kills}")
