"""A job moves once per version, and a move that loses says why."""

from __future__ import annotations

import asyncio
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from outbox import (
    Ahead,
    AlreadyApplied,
    Applied,
    Illegal,
    Missing,
    Superseded,
    transition,
    transition_async,
)
from outbox.errors import Misuse
from outbox.states import NEXT_VERSION, State

if TYPE_CHECKING:
    from consuming import Shop
    from databases import Database

    from outbox import Result


def moved(shop: Shop, job_id: uuid.UUID, version: int, to: str, **options: Any) -> Result:
    """Move a job in a transaction of its own."""
    with Session(shop.engine) as session, session.begin():
        return transition(session, job_id, version, to, **options)


def test_applied_is_the_next_version(shop: Shop) -> None:
    job_id = shop.job()
    assert moved(shop, job_id, 1, "succeeded") == Applied(2)
    row = shop.row(job_id)
    assert (row.state, row.version) == ("succeeded", 2)
    assert row.finished_at


def test_a_second_time_is_already_applied_even_after_more_has_happened(shop: Shop) -> None:
    job_id = shop.job()
    assert moved(shop, job_id, 1, "scheduled") == Applied(2)
    assert moved(shop, job_id, 1, "scheduled") == AlreadyApplied(2)
    assert moved(shop, job_id, 2, "dead") == Applied(3)
    assert moved(shop, job_id, 1, "scheduled") == AlreadyApplied(3)


def test_superseded_missing_ahead_illegal(shop: Shop) -> None:
    job_id = shop.job()
    assert moved(shop, uuid.uuid4(), 1, "succeeded") == Missing()
    assert moved(shop, job_id, 5, "succeeded") == Ahead(1)
    assert moved(shop, job_id, 1, "cancelled") == Applied(2)
    assert moved(shop, job_id, 1, "succeeded") == Superseded(2)
    assert moved(shop, job_id, 2, "dead") == Illegal(State.CANCELLED)


@pytest.mark.parametrize("to", ["pending", "parked", "published", "running"])
def test_the_relays_states_are_the_relays(shop: Shop, to: str) -> None:
    job_id = shop.job()
    with pytest.raises(ValueError, match=to):
        moved(shop, job_id, 1, to)
    with pytest.raises(ValueError, match="nonsense"):
        moved(shop, job_id, 1, "nonsense")


def test_what_is_said_of_it_is_kept(shop: Shop) -> None:
    job_id = shop.job()
    moved(shop, job_id, 1, "scheduled", error="x" * 3_000, note="because", by="alice", delay=60)
    assert len(shop.row(job_id).error or "") == 2_000
    assert 55 < shop.seconds_until("available_at") < 61
    assert shop.database.execute("SELECT by, note FROM outbox.transition") == [("alice", "because")]


def test_who_and_why_end_with_the_move(shop: Shop) -> None:
    first, second = shop.job(), shop.job()
    with Session(shop.engine) as session, session.begin():
        transition(session, first, 1, "dead", note="because", by="alice")
        transition(session, second, 1, "dead")
    told = dict(shop.database.execute("SELECT job_id::text, by FROM outbox.transition"))
    assert told[str(first)] == "alice"
    assert told[str(second)] == shop.value("SELECT session_user::text")


def test_a_moment_may_be_given(shop: Shop) -> None:
    job_id, later = shop.job(), datetime.now(UTC) + timedelta(hours=1)
    moved(shop, job_id, 1, "scheduled", available_at=later)
    assert shop.row(job_id).available_at == later
    with pytest.raises(ValueError, match="two ways"):
        moved(shop, job_id, 2, "scheduled", available_at=later, delay=1)


def test_it_never_commits(shop: Shop) -> None:
    job_id = shop.job()
    with Session(shop.engine) as session:
        assert transition(session, job_id, 1, "succeeded") == Applied(2)
        session.rollback()
    assert shop.state(job_id) == "published"


def test_autocommit_is_refused(shop: Shop) -> None:
    job_id = shop.job()
    engine = shop.engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(engine) as session, pytest.raises(Misuse, match="AUTOCOMMIT"):
        transition(session, job_id, 1, "succeeded")


def test_of_many_at_once_one_wins(shop: Shop) -> None:
    for _ in range(10):
        job_id, together = shop.job(), threading.Barrier(8)
        results: list[Result] = []

        def race(job_id: uuid.UUID = job_id, together: Any = together, results: Any = results) -> None:
            together.wait()
            results.append(moved(shop, job_id, 1, "succeeded"))

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(type, results), key=str) == sorted([Applied] + [AlreadyApplied] * 7, key=str)
        assert shop.row(job_id).version == 2


def test_sessions_that_are_awaited(shop: Shop, database: Database) -> None:
    job_id = shop.job()

    async def move_twice() -> list[Result]:
        engine = create_async_engine(database.url)
        async with AsyncSession(engine) as session, session.begin():
            results = [await transition_async(session, job_id, 1, "dead", error="no") for _ in range(2)]
        await engine.dispose()
        return results

    assert asyncio.run(move_twice()) == [Applied(2), AlreadyApplied(2)]
    assert shop.row(job_id).error == "no"


STEP = st.tuples(st.integers(0, 9), st.sampled_from(["succeeded", "scheduled", "dead", "cancelled"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=12))
def test_any_history_is_legal_and_as_long_as_its_version(shop: Shop, steps: list[tuple[int, str]]) -> None:
    job_id = shop.job()
    expected, version = State.PUBLISHED, 1
    for said, to in steps:
        result = moved(shop, job_id, said, to)
        if said == version and (expected, State(to)) in NEXT_VERSION:
            version += 1
            expected = State(to)
            assert result == Applied(version)
        else:
            assert not isinstance(result, Applied)
    row = shop.row(job_id)
    assert (row.state, row.version) == (expected, version)
    log = shop.value("SELECT count(*) FROM outbox.transition WHERE job_id = %s", job_id)
    assert row.version == 1 + log


@pytest.mark.parametrize(
    ("first", "said", "to", "word", "result"),
    [
        ("dead", 1, "dead", "already_applied", AlreadyApplied),
        ("cancelled", 1, "dead", "superseded", Superseded),
        ("dead", 2, "cancelled", "illegal", Illegal),
        ("dead", 9, "dead", "ahead", Ahead),
        ("dead", 2, "scheduled", "applied", Applied),
    ],
)
def test_sql_says_the_same(shop: Shop, first: str, said: int, to: str, word: str, result: type) -> None:  # noqa: PLR0917
    one, two = shop.job(), shop.job()
    moved(shop, one, 1, first)
    moved(shop, two, 1, first)
    assert shop.value("SELECT outbox.transition(%s, %s, %s)", one, said, to) == word
    assert type(moved(shop, two, said, to)) is result
