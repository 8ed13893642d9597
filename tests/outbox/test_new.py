"""What an application says of a job is checked before any SQL, and stored as it was said."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

import outbox
from outbox import models
from outbox.models import JobRow

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session


def committed(session: Session) -> Row[Any]:
    """Commit, and return the one row there is."""
    session.commit()
    return session.execute(select(models.job)).one()


def test_a_delay_counts_from_the_databases_clock(session: Session) -> None:
    outbox.add(session, "later", {}, delay=90.5)
    outbox.add(session, "later", {}, delay=timedelta(seconds=90.5))
    session.commit()
    for row in session.execute(select(models.job)):
        assert row.state == "scheduled"
        waits = row.available_at - row.created_at
        assert abs(waits - timedelta(seconds=90.5)) < timedelta(seconds=1)


@pytest.mark.parametrize("nothing", [0, 0.0, timedelta()])
def test_no_delay_is_pending_at_once(session: Session, nothing: float | timedelta) -> None:
    outbox.add(session, "now", {}, delay=nothing)
    assert committed(session).state == "pending"


def test_at_is_a_moment_whatever_its_time_zone(session: Session) -> None:
    moment = datetime(2126, 5, 4, 3, 2, 1, 999_999, tzinfo=timezone(timedelta(hours=-7, minutes=-30)))
    outbox.add(session, "later", {}, at=moment)
    row = committed(session)
    assert (row.state, row.available_at) == ("scheduled", moment)


def test_a_moment_in_the_past_is_due_at_once(session: Session) -> None:
    # Scheduled all the same: the leader stages it by the database's clock, the one that counts.
    outbox.add(session, "later", {}, at=datetime(1999, 1, 1, tzinfo=UTC))
    row = committed(session)
    assert row.state == "scheduled"
    assert row.available_at < row.created_at


@pytest.mark.parametrize(
    ("when", "error", "match"),
    [
        ({"delay": 1, "at": datetime(2126, 1, 1, tzinfo=UTC)}, ValueError, "delay and at"),
        ({"at": datetime(2126, 1, 1)}, ValueError, "at has no time zone"),  # noqa: DTZ001 - the fault
        ({"at": date(2126, 1, 1)}, TypeError, "at is date"),
        ({"at": "2126-01-01T00:00:00Z"}, TypeError, "at is str"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, ValueError, "at is in the year 9999"),
        ({"at": datetime.min.replace(tzinfo=UTC)}, ValueError, "at is in the year 1"),
        ({"at": datetime(1969, 12, 31, tzinfo=UTC)}, ValueError, "at is in the year 1969"),
        ({"at": datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, ValueError, "the year 1969"),
        ({"delay": -0.001}, ValueError, "delay is -0.001"),
        ({"delay": timedelta(-1)}, ValueError, "delay is -1 day"),
        ({"delay": math.nan}, ValueError, "delay is nan"),
        ({"delay": math.inf}, ValueError, "delay is inf"),
        ({"delay": 10**400}, ValueError, "delay is 1000"),
        ({"delay": timedelta.max}, ValueError, "delay is 999999999 days"),
        ({"delay": "60"}, TypeError, "delay is str"),
        ({"delay": True}, TypeError, "delay is bool"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(
    session: Session, when: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        outbox.add(session, "later", {}, **when)
    assert not session.new


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_edges_of_time_can_be_read_back_in_every_time_zone(session: Session, zone: str) -> None:
    outbox.add(session, "edge", {}, at=datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC))
    outbox.add(session, "edge", {}, at=datetime(1970, 1, 1, tzinfo=UTC))
    outbox.add(session, "edge", {}, delay=timedelta(days=365_000))
    session.flush()
    session.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
    assert len(session.scalars(select(JobRow.available_at)).all()) == 3


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"payload": {"total": object()}}, TypeError, r"\$\.total: object"),
        ({"payload": {"total": math.nan}}, ValueError, r"\$\.total: nan"),
        ({"payload": b"bytes"}, TypeError, "content_type"),
        ({"payload": "x" * 131_071}, ValueError, "131073 bytes, the limit is 131072"),
        ({"kind": "order.*"}, ValueError, "kind holds"),
        ({"kind": ""}, ValueError, "kind is empty"),
        ({"kind": b"order"}, TypeError, "kind is bytes"),
        ({"kind": "x" * 256}, ValueError, "kind is 256 bytes"),
        ({"key": ""}, ValueError, "key is empty"),
        ({"key": "x" * 1_025}, ValueError, "key is 1025 bytes"),
        ({"key": 7}, TypeError, "key is int"),
        ({"key": "a\0b"}, ValueError, "key holds a control character"),
        ({"headers": {"x-outbox-version": "1"}}, ValueError, "reserved"),
        ({"headers": {"tenant": 7}}, TypeError, "tenant"),
        ({"headers": []}, TypeError, "headers are a mapping"),
        ({"exchange": "*"}, ValueError, "exchange is '\\*'"),
        ({"routing_key": "*"}, ValueError, "routing_key is '\\*'"),
        ({"exchange": "a\x1fb"}, ValueError, "exchange holds a control character"),
        ({"routing_key": "x" * 256}, ValueError, "routing_key is 256 bytes"),
        ({"exchange": 7}, TypeError, "exchange is int"),
        ({"max_attempts": 0}, ValueError, "max_attempts is 0"),
        ({"max_attempts": 2**31}, ValueError, "max_attempts is 2147483648"),
        ({"max_attempts": 1.5}, TypeError, "max_attempts is float"),
        ({"max_attempts": True}, TypeError, "max_attempts is bool"),
        ({"content_type": "json"}, ValueError, "content_type"),
    ],
)
def test_it_is_named_and_the_transaction_goes_on(
    session: Session, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    outbox.add(session, "before", {})
    given = {"kind": "order.paid", "payload": {}} | options
    for refused in (
        lambda: outbox.add(session, **given),
        lambda: outbox.add_all(session, [{"kind": "fine", "payload": {}}, given]),  # type: ignore[list-item]
        lambda: outbox.add_unique(session, unique="one", **given),
        lambda: outbox.insert(**given),
    ):
        with pytest.raises(error, match=match):
            refused()
    outbox.add(session, "after", {})
    session.commit()
    assert session.scalars(select(JobRow.kind).order_by(JobRow.pos)).all() == ["before", "after"]


def test_a_larger_payload_is_taken_where_the_call_says_so(session: Session) -> None:
    outbox.add(session, "large", "x" * 131_071, max_bytes=131_073)
    assert len(committed(session).payload) == 131_073


def test_an_option_that_does_not_exist_is_a_type_error(session: Session) -> None:
    with pytest.raises(TypeError, match="colour"):
        outbox.add_all(session, [{"kind": "k", "payload": {}, "colour": "red"}])  # type: ignore[typeddict-unknown-key]
