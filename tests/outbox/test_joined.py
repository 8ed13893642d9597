"""What a handler may do with its session, and what it is told when it does more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from handling import write
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from outbox.handlers import Handlers
from outbox.runner import Runner
from outbox.runner.delivery import Ack

if TYPE_CHECKING:
    from consuming import Shop
    from databases import Database

    from outbox.job import Job


def test_a_handlers_commit_does_not_commit(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.commit()
        write(job, session)
        session.commit()
        assert shop.effects() == 0
        raise RuntimeError("after the commit")

    run(handle).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.effects()) == ("scheduled", 0)


def test_a_handler_that_commits_succeeds(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.commit()
        session.close()

    run(handle).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)


def test_a_handler_that_rolls_back_is_told(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.rollback()

    run(handle).run(shop.delivery(job_id))
    row = shop.row(job_id)
    assert (row.state, shop.effects()) == ("scheduled", 0)
    assert row.error is not None
    assert "rolled back" in row.error
    assert "begin_nested" in row.error


def test_nothing_can_be_written_after_a_rollback(shop: Shop, run: Any) -> None:
    """The session would begin a transaction of its own, and commit it for real, without the job."""
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        session.execute(text("SELECT 1"))
        session.rollback()
        write(job, session)
        session.commit()

    run(handle).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.effects()) == ("scheduled", 0)
    assert "rolled back" in (shop.row(job_id).error or "")


def test_a_savepoint_may_fail(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(text("INSERT INTO effect SELECT * FROM effect"))

    run(handle).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"])
def test_the_applications_isolation_level_does_not_matter(shop: Shop, database: Database, level: str) -> None:
    """Under REPEATABLE READ the relay's mark after our snapshot would fail the completion (40001)."""
    engine = create_engine(database.url, isolation_level=level)
    handlers = Handlers("receipts", session=sessionmaker(engine))

    @handlers("order.paid")
    def handle(job: Job, session: Session) -> None:
        assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
        write(job, session)
        session.flush()
        shop.database.execute("UPDATE outbox.job SET published_at = clock_timestamp()")

    job_id = shop.job()
    assert Runner(handlers, observer=shop.observe).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)
    engine.dispose()
