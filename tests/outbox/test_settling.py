"""What becomes of a job that was not simply done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from handling import fail, write
from sqlalchemy import text

from outbox.backoff import Backoff
from outbox.outcomes import Bury, Cancel, Snooze
from outbox.runner.delivery import Ack

if TYPE_CHECKING:
    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job


def test_a_failure_is_tried_again_after_the_back_off(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        raise RuntimeError("the printer\nis on fire")

    assert run(handle, backoff=Backoff.fixed(600)).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, row.attempt) == ("scheduled", 2, 1)
    assert row.error == "RuntimeError: the printer is on fire"
    assert 590 < shop.seconds_until("available_at") < 601
    assert shop.effects() == 0
    assert shop.value("SELECT note FROM outbox.transition WHERE version = 2") == row.error
    assert shop.value("SELECT by FROM outbox.transition WHERE version = 2").startswith("receipts@")


def test_the_last_attempt_that_fails_is_the_end(shop: Shop, run: Any) -> None:
    job_id = shop.job(max_attempts=3, attempt=2)
    assert run(fail).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt, row.error) == ("dead", 3, "RuntimeError: no")


def test_the_lower_of_two_limits_holds(shop: Shop, run: Any) -> None:
    job_id = shop.job(max_attempts=20, attempt=1)
    run(fail, max_attempts=2).run(shop.delivery(job_id))
    assert shop.state(job_id) == "dead"


def test_a_permanent_error_is_the_end_at_once(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(_job: Job, _session: Session) -> None:
        raise KeyError("x")

    run(handle, permanent=(LookupError,)).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("dead", 1)


def test_sys_exit_is_a_failure_like_any_other(shop: Shop, run: Any) -> None:
    job_id = shop.job()

    def handle(_job: Job, _session: Session) -> None:
        raise SystemExit(3)

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    assert shop.row(job_id).error == "SystemExit: 3"


def test_a_flush_or_a_commit_that_fails_is_the_handlers_failure(shop: Shop, run: Any) -> None:
    shop.database.execute(
        "CREATE TABLE one (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED); INSERT INTO one VALUES (1)"
    )
    job_id = shop.job()

    def handle(_job: Job, session: Session) -> None:
        session.execute(text("INSERT INTO one VALUES (1)"))

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt) == ("scheduled", 1)
    assert row.error is not None
    assert row.error.startswith("UniqueViolation: duplicate key")
    assert "(1)" not in row.error  # the detail quotes values


@pytest.mark.parametrize("seconds", [-1, 1e12, 1e18, float("inf"), float("nan")])
def test_a_snooze_ends_while_the_table_can_say_when(seconds: float) -> None:
    with pytest.raises(ValueError, match="365000 days"):
        Snooze(seconds)
    Snooze(365_000 * 86_400)


@pytest.mark.parametrize("reason", ["half a \ud83d", "no such order: \u2713"])
def test_a_reason_that_the_database_cannot_hold_is_spelt_out(shop: Shop, run: Any, reason: str) -> None:
    """Of a database in LATIN1, say. The job would be settled again and again, and never get any further."""
    shop.database.execute(
        "CREATE FUNCTION latin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.error ~ '[^[:ascii:]]' THEN RAISE 'no equivalent' USING ERRCODE = '22P05'; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER latin BEFORE UPDATE ON outbox.job FOR EACH ROW EXECUTE FUNCTION latin()"
    )
    job_id = shop.job()
    assert run(lambda _job, _session: Bury(reason)).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.error) == ("dead", reason.encode("ascii", "backslashreplace").decode())


@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Snooze(600), ("scheduled", 0, None)),
        (Cancel("paid twice"), ("cancelled", 1, "paid twice")),
        (Bury("no such order"), ("dead", 1, "no such order")),
    ],
)
def test_answers(shop: Shop, run: Any, answer: Exception, raised: bool, expected: tuple[object, ...]) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> object:
        write(job, session)
        if raised:
            raise answer
        return answer

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt, row.error) == expected
    assert shop.effects() == 0
