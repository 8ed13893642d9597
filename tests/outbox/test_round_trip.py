"""What is added comes back byte for byte, or is refused before any SQL with the transaction still usable."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, event, select, text
from sqlalchemy.orm import Session
from strategies import is_strict, is_writable, large_payloads, payloads

import outbox
from outbox import models, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from databases import Database


BATCH = 100


def many(examples: int, strategy: st.SearchStrategy[Any], function: Callable[[Any], None]) -> None:
    """Call the function with many examples, all in one session."""
    how = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    how(given(strategy)(lambda value: function(value)))()  # noqa: PLW0108 - a method cannot be decorated


class Diary:
    """A session that writes many jobs in one transaction, and notes every statement that it sends."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.sent = 0
        self.written: dict[UUID, tuple[bytes, Any]] = {}
        event.listen(session.connection(), "before_cursor_execute", self._note)

    def _note(self, *_: object) -> None:
        self.sent += 1

    def add(self, value: Any) -> None:
        """Add a payload that must be taken."""
        self.written[outbox.add(self._session, "order.paid", value)] = (payload.encode(value)[0], value)
        if len(self._session.new) == BATCH:
            self._session.flush()

    def refused(self, **given: Any) -> None:
        """Add what must be refused."""
        sent, waiting = self.sent, len(self._session.new)
        with pytest.raises((TypeError, ValueError)):
            outbox.add(self._session, **{"kind": "order.paid", "payload": {}} | given)
        assert (self.sent, len(self._session.new)) == (sent, waiting)
        assert self._session.execute(text("SELECT 1")).scalar() == 1

    def compare(self) -> None:
        """Read everything back, in another transaction."""
        self._session.commit()
        found = self._session.execute(select(models.job.c.id, models.job.c.payload))
        bodies = {job_id: bytes(body) for job_id, body in found}
        assert bodies == {job_id: body for job_id, (body, _) in self.written.items()}
        for body, value in self.written.values():
            if is_strict(value):
                assert payload.decode(body, payload.JSON) == value


@contextmanager
def diary(database: Database, driver: str) -> Iterator[Diary]:
    with Session(create_engine(database.url_for(driver), poolclass=NullPool)) as session:
        yield Diary(session)


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
def test_payloads_of_every_sort_come_back_or_are_refused(database: Database, count: int) -> None:
    with diary(database, "psycopg") as notes:

        def write(value: Any) -> None:
            notes.add(value) if is_writable(value) else notes.refused(payload=value)

        many(count, payloads(), write)
        notes.compare()
    assert count / 2 < len(notes.written) < count


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_large_payloads_come_back(database: Database, driver: str) -> None:
    with diary(database, driver) as notes:
        many(100, large_payloads(), notes.add)
        notes.compare()
    assert len(notes.written) >= 100


TRAPS = [
    "",
    "*",
    "#",
    "a.*",
    "\0",
    "\n",
    "\x1f",
    "\ud800",
    "'\"\\",
    "x-outbox-version",
    "x" * 255,
    "x" * 256,
    "é" * 512,
]
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(TRAPS))
OPTIONS = st.fixed_dictionaries(
    {"kind": st.one_of(st.just("order.paid"), TEXTS)},
    optional={
        "key": TEXTS,
        "exchange": TEXTS,
        "routing_key": TEXTS,
        "headers": st.dictionaries(TEXTS, TEXTS, max_size=3),
    },
)


@pytest.mark.parametrize("count", [500, pytest.param(3_000, marks=pytest.mark.long)])
def test_every_text_comes_back_or_is_refused(count: int, database: Database, session: Session) -> None:
    written: dict[UUID, dict[str, Any]] = {}

    def write(options: dict[str, Any]) -> None:
        try:
            written[outbox.add(session, payload={}, **options)] = options
        except ValueError:
            assert not session.new
        session.flush()

    many(count, OPTIONS, write)
    session.commit()
    assert len(written) > count / 10
    for job_id, options in written.items():
        row = session.execute(select(models.job).where(models.job.c.id == job_id)).one()
        assert {name: getattr(row, name) for name in options} == options
