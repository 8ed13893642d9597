"""One event, two services with databases of their own: one effect in each. And a job has one taker."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from failing import WRONG, fails
from faults.shovel import RAW, Shovel
from handling import write
from helpers import eventually
from relays import relaying, states
from sqlalchemy.orm import Session

import outbox
from outbox import events
from outbox.backoff import Backoff
from outbox.errors import WrongEnvironment
from outbox.handlers import Handlers

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from databases import Database, Databases
    from faults.figures import Figures
    from processes import Process, Processes

    from outbox.job import Job

APP = """
import os
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
import outbox

sessions = sessionmaker(create_engine(os.environ["OUTBOX_DATABASE_URL"]))
handlers = outbox.Handlers(os.environ["QUEUE"], session=sessions)

@handlers("order.paid")
def order_paid(job, session):
    pass
"""


@pytest.fixture
def services(databases: Databases, amqp_url: str) -> Iterator[dict[str, Shop]]:
    """Two services, by their queues, each with a database of its own."""
    with databases.migrated() as one, databases.migrated() as other:
        made = {"receipts": Shop(one, amqp_url), "stock": Shop(other, amqp_url)}
        yield made
        for each in made.values():
            each.close()


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize(
    "count", [60, pytest.param(1_000, marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
def test_an_event_has_one_effect_in_each_service(
    count: int, copies: int, database: Database, services: dict[str, Shop], figures: Figures
) -> None:
    """A fifth of the handlers fails after its write; each service's relay sends retries to its own queue."""
    (broker_url,) = {shop.broker_url for shop in services.values()}
    with ExitStack() as stack:
        for queue, shop in services.items():
            stack.enter_context(shop.consuming(registry(queue, shop)))
            stack.enter_context(relaying(shop.database, broker_url))
        for shop in services.values():
            eventually(lambda shop=shop: shop.heard(events.ConsumerStarted), 20)
        shovel = stack.enter_context(Shovel(broker_url, copies))
        stack.enter_context(relaying(database, broker_url, exchange=RAW))
        ids = emit(database, count)
        for shop in services.values():
            done = {"succeeded": count}
            eventually(lambda shop=shop, done=done: states(shop.database) == done, 100, every=0.1)
        eventually(lambda: shovel.idle and shovel.passed == copies * count, 30)
        eventually(lambda: not any(shop.ready(queue) for queue, shop in services.items()), 30, every=0.1)
    assert states(database) == {"published": count}
    for queue, shop in services.items():
        check(shop, queue, ids)
        tries = len(shop.heard(events.JobHandled))
        ignored = len(shop.heard(events.MessageIgnored, result="already_applied"))
        figures.say(
            f"{queue}: {count} events, {shovel.passed} messages, {tries} tries, {ignored} already applied"
        )


def registry(queue: str, shop: Shop) -> Handlers[Session]:
    handlers = Handlers(queue, session=shop.sessions)

    @handlers("order.paid", event=True, backoff=Backoff.fixed(0))
    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        if random.random() < 0.2:
            raise RuntimeError("no")

    return handlers


def emit(database: Database, count: int) -> list[uuid.UUID]:
    with Session(database.engine) as session, session.begin():
        return [outbox.emit(session, "order.paid", {"order": n}) for n in range(count)]


def check(shop: Shop, queue: str, ids: list[uuid.UUID]) -> None:
    """Each event has exactly one effect, under the id that follows from it and the queue."""
    effects = [row[0] for row in shop.database.execute("SELECT job_id FROM effect")]
    assert len(effects) == len(ids)
    assert set(effects) == {row[0] for row in shop.database.execute("SELECT id FROM outbox.job")}
    assert not set(effects) & set(ids), "adopted under the sender's id"
    with Session(shop.engine) as session:
        assert not any(outbox.adopt(session, str(each), queue) for each in ids[:20])


# --- a kind of job has one taker ---


@pytest.fixture
def consume(processes: Processes, services: dict[str, Shop], tmp_path: Path) -> Callable[..., Process]:
    """Start ``outbox consume`` for a queue, in the first service's database."""
    (tmp_path / "service.py").write_text(APP)
    shop = services["receipts"]
    env = {"OUTBOX_DATABASE_URL": shop.database.url, "OUTBOX_BROKER_URL": shop.broker_url}

    def start(queue: str, *options: str) -> Process:
        arguments = ("consume", "service:handlers", "--log", "json", *options)
        return processes.outbox(*arguments, env=env | {"QUEUE": queue}, cwd=tmp_path)

    return start


def test_a_second_queue_for_a_kind_of_job_is_refused_until_it_is_moved(
    consume: Callable[..., Process], services: dict[str, Shop]
) -> None:
    shop, handlers = services["receipts"], job_of(services["receipts"])
    with shop.consuming(handlers) as first:
        first.started(shop)
        assert named(fails(consume("mails"), WRONG)) == {"receipts", "mails", "order.paid", "--take-over"}
        moved = consume("mails", "--take-over")
        moved.wait_event("consumer_started")
    assert shop.database.execute("SELECT kind, queue FROM outbox.taker") == [("order.paid", "mails")]
    refusal = shop.refused(handlers)
    assert isinstance(refusal, WrongEnvironment)
    assert named(str(refusal)) == {"receipts", "mails", "order.paid", "--take-over"}
    moved.terminate()
    assert moved.wait() == 0, moved.story()


def job_of(shop: Shop) -> Handlers[Session]:
    handlers = Handlers("receipts", session=shop.sessions)
    handlers("order.paid")(write)
    return handlers


def named(line: str) -> set[str]:
    """Return which of the words that somebody needs are in a line."""
    return {word for word in ("receipts", "mails", "order.paid", "--take-over") if word in line}
