"""The leased mode: running first, finished together with the last writes, fenced when the lease is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from handling import Effect
from helpers import eventually
from sqlalchemy import text

from outbox import events
from outbox.backoff import Backoff
from outbox.handlers import Handlers
from outbox.leased import LeasedJob, LeaseLost
from outbox.outcomes import Snooze
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Alone, Keep
from outbox.runner.desk import STRIKES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consuming import Shop

    from outbox.runner.delivery import Delivery

Run = "Callable[..., Runner[Any]]"


@pytest.fixture
def leased(shop: Shop) -> Iterator[Callable[..., Runner[Any]]]:
    """Return what makes a runner with one leased handler of ``order.paid``."""
    made: list[Runner[Any]] = []

    def with_handler(function: Any, **options: Any) -> Runner[Any]:
        handlers = Handlers("receipts", session=shop.sessions)
        running = options.pop("on_running", lambda _: None)
        handlers.leased("order.paid", **{"seconds": 30, **options})(function)
        made.append(Runner(handlers, observer=shop.observe, on_running=running))
        return made[-1]

    yield with_handler
    for runner in made:
        runner.close()


def rescue(shop: Shop) -> None:
    """Do what the leader does with a lease that ran out."""
    shop.database.execute("UPDATE outbox.job SET state = 'scheduled', version = version + 1")


def test_the_job_is_running_before_its_handler_is_called(shop: Shop, leased: Any) -> None:
    job_id = shop.job(payload=[1])
    acked: list[Delivery] = []

    def handle(job: LeasedJob[Any]) -> None:
        row = shop.row(job_id)
        assert (row.state, row.version, row.attempt) == ("running", 2, 1)
        assert row.lease_token
        assert row.started_at
        assert 25 < shop.seconds_until("lease_until") < 31
        assert (job.state, job.version, job.attempt, job.payload) == ("running", 2, 1, [1])
        assert [each.id for each in acked] == [job_id]  # before the work, which may take hours

    assert leased(handle, on_running=acked.append).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, row.attempt, row.lease_token) == ("succeeded", 3, 1, None)
    assert shop.heard(events.JobHandled, state="succeeded", version=3, attempt=1)


def test_completion_and_last_writes_are_one_commit(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        with job.finish() as session:
            session.add(Effect(job_id=job.id))
            session.flush()
            assert (shop.state(job_id), shop.effects()) == ("running", 0)
        assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)
        assert not job.lost

    assert leased(handle).run(shop.delivery(job_id)) == Ack()
    assert shop.row(job_id).version == 3


def test_last_writes_that_fail_are_rolled_back_and_tried_again(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        with job.finish() as session:
            session.add(Effect(job_id=job.id))
            session.flush()
            raise RuntimeError("no")

    leased(handle, backoff=Backoff.fixed(60)).run(shop.delivery(job_id))
    row = shop.row(job_id)
    assert (row.state, row.attempt, row.error, shop.effects()) == ("scheduled", 1, "RuntimeError: no", 0)


def test_the_zombie_of_a_lost_lease_writes_nothing(shop: Shop, leased: Any) -> None:
    job_id = shop.job()
    lost: list[bool] = []

    def handle(job: LeasedJob[Any]) -> None:
        rescue(shop)
        assert not job.lost  # nobody told us yet
        with pytest.raises(LeaseLost), job.finish() as session:
            session.add(Effect(job_id=job.id))
        lost.append(job.lost)

    assert leased(handle).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.row(job_id).version, shop.effects(), lost) == ("scheduled", 3, 0, [True])
    assert shop.heard(events.MessageIgnored, result="superseded")
    assert not shop.heard(events.JobHandled)


@pytest.mark.parametrize("fails", [True, False])
def test_the_zombie_of_a_lost_lease_can_neither_fail_nor_complete_the_job(
    shop: Shop, leased: Any, fails: bool
) -> None:
    job_id = shop.job()

    def handle(_job: LeasedJob[Any]) -> None:
        rescue(shop)
        if fails:
            raise RuntimeError("no")

    assert leased(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, row.error) == ("scheduled", 3, None)


def test_the_same_version_under_another_token_is_not_ours(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        shop.database.execute("UPDATE outbox.job SET lease_token = gen_random_uuid()")
        with pytest.raises(LeaseLost), job.finish():
            pass

    leased(handle).run(shop.delivery(job_id))
    assert shop.state(job_id) == "running"


def test_a_lease_is_renewed_while_the_handler_works(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        first = shop.row(job_id).lease_until
        eventually(lambda: shop.row(job_id).lease_until > first, 5)
        assert not job.lost

    leased(handle, seconds=1).run(shop.delivery(job_id))
    assert shop.state(job_id) == "succeeded"


def test_a_handler_is_told_that_its_lease_is_lost(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        rescue(shop)
        eventually(lambda: job.lost, 5)
        with pytest.raises(LeaseLost):
            job.progress(0.5)
        with pytest.raises(LeaseLost), job.finish():
            raise AssertionError

    leased(handle, seconds=1).run(shop.delivery(job_id))
    assert shop.state(job_id) == "scheduled"


def test_progress_is_seen_from_outside(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        job.progress(0.25)
        job.progress(0.5)
        assert eventually(lambda: shop.row(job_id).progress == 0.5, 5)
        with pytest.raises(ValueError, match="between 0 and 1"):
            job.progress(1.5)

    leased(handle, seconds=1).run(shop.delivery(job_id))
    assert shop.state(job_id) == "succeeded"


def test_a_failure_is_tried_again_and_then_dead(shop: Shop, leased: Any) -> None:
    job_id = shop.job(max_attempts=2)

    def handle(_job: LeasedJob[Any]) -> None:
        raise RuntimeError("no")

    runner = leased(handle)
    runner.run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 1)
    again = shop.job(max_attempts=2, attempt=1)
    runner.run(shop.delivery(again))
    assert (shop.state(again), shop.row(again).attempt) == ("dead", 2)


def test_a_snooze_costs_no_attempt(shop: Shop, leased: Any) -> None:
    job_id = shop.job()
    leased(lambda _job: Snooze(60)).run(shop.delivery(job_id))
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 0)


def test_what_was_finished_stays_finished(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        with job.finish():
            pass
        raise RuntimeError("afterwards")

    leased(handle).run(shop.delivery(job_id))
    assert shop.state(job_id) == "succeeded"
    assert "afterwards" in shop.heard(events.JobHandled, state="succeeded")[0].reason


def test_passing_faults_are_sat_out_under_the_lease(shop: Shop, leased: Any) -> None:
    job_id = shop.job()

    def handle(job: LeasedJob[Any]) -> None:
        with job.finish() as session:
            session.execute(text("DO $$ BEGIN RAISE 'deadlock' USING ERRCODE = '40P01'; END $$"))

    runner, message = leased(handle), shop.delivery(job_id)
    for _ in range(STRIKES - 1):
        assert isinstance(runner.run(message), Keep)
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("running", 1)
    assert runner.run(message) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("scheduled", 1)


def test_an_unreadable_payload_is_buried_and_never_runs(shop: Shop, leased: Any) -> None:
    job_id = shop.job()
    message = shop.delivery(job_id)
    object.__setattr__(message.message, "body", b"{")
    leased(lambda _job: None).run(message)
    assert (shop.state(job_id), shop.row(job_id).version) == ("dead", 2)


def test_a_message_that_came_back_runs_alone(shop: Shop, leased: Any) -> None:
    job_id = shop.job()
    runner, message = leased(lambda _job: None), shop.delivery(job_id, redelivered=True)
    assert runner.run(message) == Alone()
    assert runner.run(message, alone=True) == Ack()
    assert (shop.state(job_id), shop.row(job_id).attempt) == ("succeeded", 1)


def test_a_job_that_is_handed_back_costs_no_attempt(shop: Shop, leased: Any) -> None:
    job_id = shop.job()
    inside, on = threading.Event(), threading.Event()

    def handle(job: LeasedJob[Any]) -> None:
        inside.set()
        assert on.wait(10)
        with pytest.raises(LeaseLost), job.finish() as session:
            session.add(Effect(job_id=job.id))

    runner, message = leased(handle), shop.delivery(job_id)
    thread = threading.Thread(target=runner.run, args=(message,))
    thread.start()
    assert inside.wait(10)
    runner.hand_back(message)
    row = shop.row(job_id)
    assert (row.state, row.attempt) == ("scheduled", 0)
    on.set()
    thread.join()
    assert (shop.row(job_id).version, shop.effects()) == (row.version, 0)


@pytest.mark.parametrize("seconds", [0, 0.5, 90_000])
def test_a_lease_lasts_a_sensible_time(shop: Shop, leased: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="lease"):
        leased(lambda _job: None, seconds=seconds)
