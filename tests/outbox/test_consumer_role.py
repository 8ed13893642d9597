"""A consumer with the rights of a consumer and no more."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from consuming import Shop
from handling import Effect, fail, write
from psycopg import sql
from roles import role
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from outbox.backoff import Backoff
from outbox.errors import WrongEnvironment
from outbox.handlers import Handlers
from outbox.outcomes import Cancel, Snooze
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Keep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from roles import Role
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from outbox.leased import LeasedJob


@pytest.fixture
def shop(database: Database, amqp_url: str) -> Iterator[Shop]:
    made = Shop(database, amqp_url)
    database.execute("GRANT ALL ON effect TO PUBLIC; GRANT ALL ON SEQUENCE effect_id_seq TO PUBLIC")
    yield made
    made.close()


def test_every_way_to_handle_a_job_is_granted(shop: Shop, database: Database) -> None:
    with role(database, "consumer") as consumer:
        engine = create_engine(consumer.url("psycopg"))
        handlers: Handlers[Session] = Handlers("receipts", session=sessionmaker(engine))
        handlers("done")(write)
        handlers("failed", backoff=Backoff.fixed(60))(fail)
        handlers("snoozed")(lambda _job, _session: Snooze(60))
        handlers("cancelled")(lambda _job, _session: Cancel("no"))
        handlers("event", event=True)(write)

        @handlers.leased("leased")
        def leased(job: LeasedJob[Session]) -> None:
            job.progress(0.5)
            job.lease.renew()
            with job.finish() as session:
                session.add(Effect(job_id=job.id))

        ids = {
            kind: shop.job(kind) for kind in ("done", "failed", "snoozed", "cancelled", "leased", "unknown")
        }
        event, ahead = shop.job("event", tracked=False), shop.job("done")
        with shop.consuming(handlers) as running:
            running.started(shop)
            shop.send_all(list(ids.values())[:-1])
            shop.send(ids["unknown"], exchange="", routing_key="receipts")
            shop.send(event, version=None)
            shop.send(ahead, version=4)
            for kind, state in [
                ("done", "succeeded"),
                ("failed", "scheduled"),
                ("snoozed", "scheduled"),
                ("cancelled", "cancelled"),
                ("leased", "succeeded"),
                ("unknown", "scheduled"),
            ]:
                shop.becomes(ids[kind], state)
            assert shop.becomes(ahead, "scheduled").version == 5
        assert shop.effects() == 3
        engine.dispose()


def test_rights_that_are_taken_away_under_a_handler_cost_no_attempt(shop: Shop, database: Database) -> None:
    job_id = shop.job()
    with role(database, "consumer") as consumer, ended(consumer) as engine:
        rights = sql.SQL("UPDATE ON outbox.job {} {}")
        taken = [rights.format(sql.SQL("FROM"), sql.Identifier(consumer.name))]

        def handle(job: Job, session: Session) -> None:
            write(job, session)
            session.flush()
            with suppress(IndexError), database.connect() as admin:
                admin.execute(sql.SQL("REVOKE {}").format(taken.pop()))

        handlers: Handlers[Session] = Handlers("receipts", session=sessionmaker(engine))
        handlers("order.paid", backoff=Backoff.fixed(60))(handle)
        runner, message = Runner(handlers), shop.delivery(job_id)
        kept = runner.run(message)
        assert isinstance(kept, Keep)
        assert kept.refused
        assert isinstance(runner.run(message), Keep), "still refused"
        with database.connect() as admin:
            admin.execute(
                sql.SQL("GRANT {}").format(rights.format(sql.SQL("TO"), sql.Identifier(consumer.name)))
            )
        assert runner.run(message) == Ack()
    assert (shop.row(job_id).attempt, shop.effects(job_id)) == (1, 1)


def test_a_handler_that_gives_its_own_rights_away_pays_for_it(shop: Shop, database: Database) -> None:
    job_id = shop.job()
    with role(database, "consumer") as consumer, role(database) as powerless, ended(consumer) as engine:
        with database.connect() as admin:
            names = [sql.Identifier(name) for name in (powerless.name, consumer.name)]
            admin.execute(sql.SQL("GRANT {} TO {}").format(*names))

        def handle(_job: Job, session: Session) -> None:
            session.execute(text(f'SET LOCAL ROLE "{powerless.name}"'))

        handlers: Handlers[Session] = Handlers("receipts", session=sessionmaker(engine))
        handlers("order.paid", backoff=Backoff.fixed(60))(handle)
        assert Runner(handlers).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt) == ("scheduled", 1)
    assert "permission denied" in (row.error or "")


@contextmanager
def ended(role: Role) -> Iterator[Engine]:
    """Give an engine of this role, and end its connections."""
    engine = create_engine(role.url("psycopg"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("kinds", [(), ("app",)])
def test_a_role_without_the_rights_is_told_what_mends_it(shop: Shop, database: Database, kinds: Any) -> None:
    with role(database, *kinds) as other:
        engine = create_engine(other.url("psycopg"))
        handlers = Handlers("receipts", session=sessionmaker(engine))
        handlers("order.paid")(write)
        error = shop.refused(handlers)
        assert isinstance(error, WrongEnvironment)
        assert "--grant-consumer" in str(error)
        engine.dispose()
