"""The database is away while consumers have their hands full: they keep their messages, and charge nobody."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from consuming import Shop
from faults.effects import check_effects
from faults.fleet import Fleet
from faults.load import KIND, Load, Shape
from handling import write
from helpers import eventually

from outbox import events
from outbox.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from relay.sandbox import Postgres

HANDS, PREFETCH = 8, 16


@pytest.fixture
def shop(own_database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(own_database, amqp_url)
    yield made
    made.close()


@pytest.mark.timeout(500)
@pytest.mark.parametrize("seconds", [6, pytest.param(300, marks=pytest.mark.long)])
def test_a_database_that_is_away_costs_no_job_anything(
    seconds: int, shop: Shop, own_postgres: Postgres, processes: Processes, figures: Figures
) -> None:
    fleet, down = Fleet(processes, shop.database.dsn, shop.broker_url), threading.Event()
    fleet.start(2)
    inside: list[Job] = []
    handlers = writing_until(down, inside, shop)
    with shop.consuming(handlers, concurrency=HANDS, prefetch=PREFETCH) as consumer:
        consumer.started(shop)
        with Load(shop.database, Shape(rate=200)) as load:
            load.burst(500)
            eventually(lambda: shop.ready() > 100 and len(inside) == HANDS, 30)
            own_postgres.kill()
            down.set()
            stay_down(seconds, shop)
            own_postgres.start()
            load.wait_committed(200)
        check_effects(shop.database, load.account, figures)
        assert len(shop.heard(events.ConsumerStarted)) == 1, "the broker's connection was not to blame"


def writing_until(down: threading.Event, inside: list[Job], shop: Shop) -> Handlers[Session]:
    """Handlers that write at once, and hold their transactions open until the database is down."""
    handlers = Handlers("receipts", session=shop.sessions)

    @handlers(KIND)
    def done(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        inside.append(job)
        down.wait()

    return handlers


def stay_down(seconds: float, shop: Shop) -> None:
    """Let the outage last; the consumer notices it, and keeps what it has."""
    eventually(lambda: shop.heard(events.ConsumerLost, server="database"))
    threading.Event().wait(seconds)
