"""The transactional mode, on a real database and without a broker."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from handling import write
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from outbox import events
from outbox.handlers import Handlers
from outbox.joined import Work
from outbox.runner import Runner
from outbox.runner.delivery import Ack, Keep
from outbox.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job


def test_completion_and_writes_are_one_commit(shop: Shop, run: Any) -> None:
    job_id = shop.job(payload={"order_id": 7}, key="order:7", headers={"tenant": "a"})
    got: list[Job] = []

    def handle(job: Job, session: Session) -> None:
        got.append(job)
        write(job, session)
        session.flush()
        assert shop.effects() == 0  # seen from outside
        assert shop.state(job_id) == "published"

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, row.attempt, shop.effects()) == ("succeeded", 2, 1, 1)
    assert row.started_at
    assert row.finished_at
    job = got[0]
    assert (job.id, job.kind, job.key, job.payload) == (job_id, "order.paid", "order:7", {"order_id": 7})
    assert (job.state, job.version, job.attempt, job.max_attempts) == (State.PUBLISHED, 1, 1, 20)
    assert (job.headers, job.idempotency_key) == ({"tenant": "a"}, str(job_id))
    assert shop.heard(events.JobHandled, state="succeeded", version=2, attempt=1)


def test_postgresql_misses_a_consumer_that_vanished_with_a_claim(shop: Shop, run: Any) -> None:
    """Its machine lost its power, or its network: by default the claim would stand for two hours."""
    patience = [f"current_setting('tcp_{name}')" for name in ("keepalives_idle", "user_timeout")]
    told: list[Any] = []

    def handle(_job: Job, session: Session) -> None:
        told.append(tuple(session.execute(text(f"SELECT {', '.join(patience)}")).one()))

    assert run(handle).run(shop.delivery(shop.job())) == Ack()
    with shop.engine.connect() as connection:  # and the application's own transactions keep theirs
        told.append(tuple(connection.execute(text(f"SELECT {', '.join(patience)}")).one()))
    assert told[0] == ("4", "12000")
    assert told[1] != told[0]


def test_a_message_that_overtook_its_mark_is_done_too(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    shop.database.execute(
        "UPDATE outbox.leader SET pid = pg_backend_pid();"
        "UPDATE outbox.job SET state = 'pending', pos = DEFAULT, sends = 2"
    )
    assert run(write).run(shop.delivery(job_id)) == Ack()
    assert shop.state(job_id) == "succeeded"


def test_the_second_copy_has_no_effect(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    copies = [shop.delivery(job_id) for _ in range(3)]
    runner = run(write)
    assert [runner.run(copy) for copy in copies] == [Ack()] * 3
    assert shop.effects(job_id) == 1
    assert len(shop.heard(events.MessageIgnored, result="already_applied")) == 2


def test_two_copies_at_once_are_one_at_a_time(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    inside, on = threading.Event(), threading.Event()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        inside.set()
        assert on.wait(10)

    runner = run(handle)
    first = threading.Thread(target=runner.run, args=(shop.delivery(job_id),))
    first.start()
    assert inside.wait(10)
    kept = runner.run(shop.delivery(job_id))
    assert isinstance(kept, Keep)
    assert kept.seconds == 1.0
    on.set()
    first.join()
    assert shop.effects(job_id) == 1


def test_nobody_waits_for_a_handler(shop: Shop, run: Any) -> None:
    """The mark, a cancel and an operator go through while it works; its own completion loses then."""
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        with shop.engine.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '1s'"))
            other.execute(
                text("UPDATE outbox.job SET state = 'cancelled', version = 2 WHERE id = :id"), {"id": job.id}
            )

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    assert (shop.state(job_id), shop.effects()) == ("cancelled", 0)
    assert shop.heard(events.MessageIgnored, result="superseded")


def test_a_job_that_was_sent_again_meanwhile_is_left_to_its_later_version(shop: Shop, run: Any) -> None:
    """Its state is the same as before; only the version tells that this handler's work must not count."""
    job_id = shop.job()

    def handle(job: Job, session: Session) -> None:
        write(job, session)
        shop.database.execute("UPDATE outbox.job SET state = 'scheduled', version = version + 1")
        shop.stage()
        shop.database.execute("UPDATE outbox.job SET state = 'published'")

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, row.attempt, shop.effects()) == ("published", 3, 0, 0)
    assert shop.heard(events.MessageIgnored, result="superseded")


def test_an_unknown_job_is_acked_and_counted(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    message = shop.delivery(job_id)
    shop.database.execute("DELETE FROM outbox.job")
    assert run(write).run(message) == Ack()
    assert shop.heard(events.MessageIgnored, result="missing")
    assert shop.heard(events.JobMissing)  # a consumer of the wrong database would ack everything in silence
    assert shop.effects() == 0


@pytest.mark.parametrize("state", ["published", "pending"])
def test_a_row_that_lost_its_history_catches_up(shop: Shop, run: Any, state: str) -> None:
    job_id = shop.job()
    message = shop.delivery(job_id, version=5)
    if state == "pending":
        shop.database.execute(
            "UPDATE outbox.leader SET pid = pg_backend_pid();"
            "UPDATE outbox.job SET state = 'pending', pos = DEFAULT, sends = 2"
        )
    assert run(write).run(message) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.version, shop.effects()) == ("scheduled", 6, 0)
    assert shop.heard(events.MessageIgnored, result="ahead")


def test_a_finished_row_is_not_raised_from_the_dead_by_a_lost_history(shop: Shop, run: Any) -> None:
    job_id = shop.job()
    message = shop.delivery(job_id, version=5)
    shop.database.execute("UPDATE outbox.job SET state = 'cancelled', version = 2")
    assert run(write).run(message) == Ack()
    assert shop.state(job_id) == "cancelled"


def test_an_ambiguous_commit_is_looked_at_again(
    shop: Shop, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost: the next look finds a later version, and that is proof."""
    job_id = shop.job()
    real = Work.commit

    def commit(work: Work[Any]) -> None:
        real(work)
        raise OperationalError(
            "COMMIT", {}, Exception("server closed the connection"), connection_invalidated=True
        )

    runner, message = run(write), shop.delivery(job_id)
    monkeypatch.setattr(Work, "commit", commit)
    assert isinstance(runner.run(message), Keep)
    monkeypatch.undo()
    assert runner.run(message) == Ack()
    assert (shop.state(job_id), shop.effects()) == ("succeeded", 1)


def test_a_handler_runs_inside_what_was_put_around_it(shop: Shop) -> None:
    said: list[str] = []

    def around(name: str) -> Any:
        @contextmanager
        def manager(job: Job) -> Iterator[None]:
            said.append(f"{name} {job.kind}")
            yield
            said.append(f"/{name}")

        return manager

    inner = Handlers("inner", session=shop.sessions, around=around("inner"))
    outer = Handlers("receipts", session=shop.sessions, around=around("outer"))

    @inner("order.paid")
    def handle(_job: Job, _session: Session) -> None:
        said.append("handler")

    outer.include(inner)
    Runner(outer, observer=shop.observe).run(shop.delivery(shop.job()))
    assert said == ["outer order.paid", "inner order.paid", "handler", "/inner", "/outer"]
