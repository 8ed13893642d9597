"""Faults of the surroundings: no ack, no attempt, until there are too many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from handling import fault, write
from sqlalchemy import event, func, select, text

from outbox.runner.delivery import Ack, Keep
from outbox.runner.desk import STRIKES

if TYPE_CHECKING:
    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job


@pytest.mark.parametrize("state", ["55P03", "40P01", "40001", "57P01", "08006", "53100", "53300", "25006"])
def test_a_passing_fault_costs_nothing_until_the_tenth(shop: Shop, run: Any, state: str) -> None:
    job_id = shop.job()
    runner, message = run(fault(state)), shop.delivery(job_id)
    for _ in range(STRIKES - 1):
        kept = runner.run(message)
        assert isinstance(kept, Keep)
        assert 0 < kept.seconds <= 5
        assert kept.database_lost == state.startswith(("57P", "08", "53100", "53300", "25006"))
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("published", 0)
    assert runner.run(message) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 1)


@pytest.mark.parametrize("state", ["57014", "22012", "23505"])
def test_other_errors_of_the_database_are_the_handlers(shop: Shop, run: Any, state: str) -> None:
    job_id = shop.job()
    assert run(fault(state)).run(shop.delivery(job_id)) == Ack()
    assert shop.row(job_id).attempt == 1


def test_a_transaction_left_idle_costs_an_attempt_at_once(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(_job: Job, session: Session) -> None:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        pid = session.scalar(select(func.pg_backend_pid()))
        with shop.engine.connect() as other:
            while other.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}
            ).scalar_one():
                other.rollback()
        session.execute(text("SELECT 1"))

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 1)


def test_an_error_that_a_handler_swallowed_fails_it_clearly(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        with pytest.raises(Exception, match="division"):
            session.execute(text("SELECT 1/0"))
        write(job, session)

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.effects()) == ("scheduled", 0)


def test_a_decision_that_could_not_be_written_is_kept(shop: Shop, run: Any) -> None:
    """The handler does not run again for it."""
    job_id = shop.job()
    calls: list[int] = []

    def take_the_table_away(*_: object) -> None:
        shop.database.execute("ALTER TABLE outbox.job RENAME TO away")

    def handle(_job: Job, _session: Session) -> None:
        calls.append(1)
        # When its transaction has ended, and not before: it holds a lock on the table.
        event.listen(shop.engine, "checkin", take_the_table_away, once=True)
        raise RuntimeError("no")

    runner, message = run(handle), shop.delivery(job_id)
    kept = runner.run(message)
    assert isinstance(kept, Keep)
    assert kept.database_lost
    shop.database.execute("ALTER TABLE outbox.away RENAME TO job")
    assert runner.run(message) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt, calls) == ("scheduled", 1, [1])
