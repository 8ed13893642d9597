"""A database that goes away, comes back, or loses the answer to a commit: no attempt is charged for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from handling import Effect, write
from helpers import eventually
from sqlalchemy import create_engine, event
from sqlalchemy.orm import sessionmaker

from outbox import events
from outbox.consumer.subscription import Subscription
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from outbox.leased import LeasedJob
    from relay import sandbox
    from relay.theatre.proxy import Proxy


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    yield made
    made.close()


@pytest.fixture
def between(shop: Shop, proxy: Callable[[str], Proxy]) -> Proxy:
    """A proxy between the consumer and its database; tests look at the database directly."""
    return proxy(shop.database.dsn)


@pytest.fixture
def handlers(shop: Shop, between: Proxy) -> Iterator[Handlers[Session]]:
    url = between.url(shop.database.dsn).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, connect_args={"connect_timeout": 2, "tcp_user_timeout": 2000})
    yield Handlers("receipts", session=sessionmaker(engine))
    engine.dispose()


def lost(shop: Shop) -> None:
    eventually(lambda: shop.heard(events.ConsumerLost, server="database"))


def test_jobs_wait_for_the_database_and_pay_nothing(
    shop: Shop, between: Proxy, handlers: Handlers[Session]
) -> None:
    handlers("order.paid")(write)
    ids = [shop.job() for _ in range(40)]
    with shop.consuming(handlers) as running:
        running.started(shop)
        between.refuse()
        shop.send_all(ids)
        lost(shop)
        eventually(lambda: len(shop.heard(events.ConsumerLost, server="database")) >= 4, 20)
        assert shop.effects() == 0
        assert shop.ready() == 24  # 16 are here, unacked; no more are fetched
        between.accept()
        for job_id in ids:
            assert shop.becomes(job_id, "succeeded").attempt == 1
        assert not shop.heard(events.ConsumerLost, server="broker")
    assert (shop.effects(), shop.ready()) == (40, 0)


def test_without_a_database_a_consumer_rests_whatever_it_keeps(
    shop: Shop, between: Proxy, handlers: Handlers[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, wait = [0], Subscription.wait

    def counted(self: Subscription, *given: Any, **named: Any) -> None:
        turns[0] += 1
        wait(self, *given, **named)

    monkeypatch.setattr(Subscription, "wait", counted)
    handlers("order.paid")(write)
    ids = [shop.job() for _ in range(40)]
    with shop.consuming(handlers) as running:
        running.started(shop)
        between.refuse()
        shop.send_all(ids)
        eventually(lambda: len(shop.heard(events.ConsumerLost, server="database")) >= 4, 20)
        before = turns[0]
        eventually(lambda: len(shop.heard(events.ConsumerLost, server="database")) >= 5, 20)
        assert turns[0] - before < 40
        between.accept()
        for job_id in ids:
            shop.becomes(job_id, "succeeded")


def test_a_database_that_is_not_there_yet_is_waited_for(
    shop: Shop, between: Proxy, handlers: Handlers[Session]
) -> None:
    handlers("order.paid")(write)
    between.refuse()
    job_id = shop.job()
    with shop.consuming(handlers) as running:
        lost(shop)
        between.accept()
        running.started(shop)
        shop.send(job_id)
        shop.becomes(job_id, "succeeded")


@pytest.mark.parametrize(("count", "cuts"), [(100, 12), pytest.param(400, 200, marks=pytest.mark.long)])
def test_connections_cut_at_any_moment_lose_nothing_and_repeat_nothing(
    shop: Shop, between: Proxy, handlers: Handlers[Session], count: int, cuts: int
) -> None:
    """Before the claim, in the handler, within the commit: whatever is cut is looked at again."""
    handlers("order.paid")(write)
    ids, pause = [shop.job() for _ in range(count)], threading.Event()
    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send_all(ids)
        for _ in range(cuts):
            between.cut()
            pause.wait(0.25)
        for job_id in ids:
            assert shop.becomes(job_id, "succeeded", 30).attempt == 1
        eventually(lambda: shop.ready() == 0)
    assert shop.value("SELECT max(n) FROM (SELECT count(*) n FROM effect GROUP BY job_id) x") == 1
    assert shop.effects() == count
    assert shop.ready() == 0


def test_a_commit_whose_answer_is_lost_is_not_repeated(
    shop: Shop, between: Proxy, handlers: Handlers[Session]
) -> None:
    job_id, worked, asked = shop.job(), threading.Event(), threading.Event()

    @handlers("order.paid")
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        worked.set()

    def cut_when_done() -> None:
        shop.becomes(job_id, "succeeded")
        between.cut()
        between.resume()

    def hold_the_answer_back(_: object) -> None:
        if worked.is_set() and not asked.is_set():
            asked.set()
            between.stall_replies()
            threading.Thread(target=cut_when_done).start()

    with shop.consuming(handlers) as running:
        running.started(shop)
        event.listen(handlers.session.kw["bind"], "commit", hold_the_answer_back)  # type: ignore[attr-defined]
        shop.send(job_id)
        eventually(lambda: shop.heard(events.MessageIgnored, result="already_applied"), 20)
    assert asked.is_set()
    row = shop.row(job_id)
    assert (row.version, row.attempt, shop.effects(), shop.ready()) == (2, 1, 1, 0)


def test_a_lease_outlives_a_short_outage(shop: Shop, between: Proxy, handlers: Handlers[Session]) -> None:
    inside, on = threading.Event(), threading.Event()

    @handlers.leased("order.paid", seconds=10)
    def handle(job: LeasedJob[Session]) -> None:
        inside.set()
        assert on.wait(20)
        with job.finish() as session:
            session.add(Effect(job_id=job.id))

    job_id = shop.job()
    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send(job_id)
        assert inside.wait(10)
        between.refuse()
        on.set()
        eventually(lambda: shop.heard(events.MessageKept))
        between.accept()
        row = shop.becomes(job_id, "succeeded")
    assert (row.version, row.attempt, shop.effects()) == (3, 1, 1)


@pytest.mark.long
def test_a_server_that_restarts_under_its_jobs(
    own_database: Database, own_postgres: sandbox.Postgres, amqp_url: str
) -> None:
    shop, pause = Shop(own_database, amqp_url), threading.Event()
    handlers = Handlers("receipts", session=shop.sessions)

    @handlers("order.paid")
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        pause.wait(0.02)

    ids = [shop.job() for _ in range(150)]
    with shop.consuming(handlers) as running:
        running.started(shop)
        shop.send_all(ids)
        for how in ("immediate", "fast", "immediate"):
            pause.wait(0.3)
            own_postgres.restart(how)  # type: ignore[arg-type]
        for job_id in ids:
            assert shop.becomes(job_id, "succeeded", 40).attempt == 1
        eventually(lambda: shop.ready() == 0)
    assert shop.effects() == 150
    shop.close()
