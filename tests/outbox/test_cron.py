"""Slots: the same for everybody who asks, on the nights of a change too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outbox.cron import Cron

ZONES = (
    "UTC",
    "Asia/Kolkata",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "Asia/Beirut",
    "Australia/Lord_Howe",
)
FIELDS = {
    "minute": ("*", "0", "30", "*/7", "5-10,50"),
    "hour": ("*", "0", "2", "1-3", "*/2", "23"),
    "day": ("*", "*", "28", "L"),
    "month": ("*", "*", "3,10,11"),
    "weekday": ("*", "*", "SUN", "MON#2"),
}
EXPRESSIONS = st.tuples(*(st.sampled_from(words) for words in FIELDS.values())).map(" ".join)
# The weeks around the changes of the clock of Berlin, New York, Havana, Beirut and Lord Howe.
INSTANTS = st.builds(
    lambda begin, minutes: begin + timedelta(minutes=minutes),
    st.sampled_from((datetime(2027, 3, 10, tzinfo=UTC), datetime(2027, 10, 1, tzinfo=UTC))),
    st.integers(0, 60 * 24 * 39),
)


def told(expression: str, zone: str, day: str) -> str:
    """Return the slots of a local day, as local times with the offset in hours."""
    local = ZoneInfo(zone)
    begin = datetime.fromisoformat(day).replace(tzinfo=local)
    after, upto = begin - timedelta(seconds=1), begin.replace(hour=23, minute=59, second=59)
    slots = list(Cron(expression, zone).between(after, upto))
    assert slots == sorted(set(slots))
    return " ".join(f"{slot.astimezone(local):%H:%M:%S%z}"[:-2] for slot in slots)


SPRING, AUTUMN = "2027-03-28", "2027-10-31"


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        # A time of the day: once in any night, and at the end of the gap.
        ("30 2 * * *", "03:00:00+02", "02:30:00+02"),
        ("0 2 * * *", "03:00:00+02", "02:00:00+02"),
        ("0 3 * * *", "03:00:00+02", "03:00:00+01"),
        ("5 30 2 * * *", "03:00:05+02", "02:30:05+02"),
        ("0,30 2 * * *", "03:00:00+02", "02:00:00+02 02:30:00+02"),
        ("0 1-3 * * *", "01:00:00+01 03:00:00+02", "01:00:00+02 02:00:00+02 03:00:00+01"),
        # An interval: real time goes on.
        ("*/30 2 * * *", "", "02:00:00+02 02:30:00+02 02:00:00+01 02:30:00+01"),
    ],
)
def test_the_nights_of_a_change(expression: str, spring: str, autumn: str) -> None:
    assert told(expression, "Europe/Berlin", SPRING) == spring
    assert told(expression, "Europe/Berlin", AUTUMN) == autumn


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), ("2027-06-01", 24)])
def test_what_happens_each_hour_happens_each_hour_of_such_a_day(day: str, hours: int) -> None:
    assert len(told("0 * * * *", "Europe/Berlin", day).split()) == hours
    assert len(told("*/10 * * * *", "Europe/Berlin", day).split()) == 6 * hours


def test_in_the_second_half_of_a_doubled_hour_what_the_first_half_had_does_not_come_again() -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    again = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert list(cron.between(again, again + timedelta(hours=1))) == []
    assert cron.latest(again) == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


def test_where_midnight_does_not_exist() -> None:
    # Havana, 14 March 2027: 23:59:59 is followed by 01:00.
    assert told("0 0 * * *", "America/Havana", "2027-03-14").startswith("01:00:00-04")
    assert told("*/30 * 14 3 *", "America/Havana", "2027-03-14").startswith("01:00:00-04 01:30:00-04")


def by_hand(expression: str, zone: str, after: datetime, upto: datetime) -> list[datetime]:
    """Return what Debian's rule says of each single minute: slow, and with nothing to step over."""
    local, fields = ZoneInfo(zone), CronSim(expression, after)
    once = not any(word.startswith("*") for word in expression.split()[:2])
    slots, minute = [], after + timedelta(minutes=1)
    while minute <= upto:
        at = minute.astimezone(local)
        left_out = gap_before(minute, local) if once else 0
        walls = [at.replace(tzinfo=None) - timedelta(minutes=back) for back in range(left_out + 1)]
        if not (once and at.fold) and any(matches(fields, wall) for wall in walls):
            slots.append(minute)
        minute += timedelta(minutes=1)
    return slots


def gap_before(minute: datetime, local: ZoneInfo) -> int:
    """Return how many minutes of the clock were left out just before ``minute``."""
    before = minute - timedelta(minutes=1)
    moved = minute.astimezone(local).replace(tzinfo=None) - before.astimezone(local).replace(tzinfo=None)
    return max(0, round(moved / timedelta(minutes=1)) - 1)


def matches(fields: CronSim, wall: datetime) -> bool:
    return (
        wall.minute in fields.minutes
        and wall.hour in fields.hours
        and wall.month in fields.months
        and fields.match_day(wall.date())
    )


@settings(deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), INSTANTS)
@example("0,20 */3 * * *", "Australia/Lord_Howe", datetime(2027, 10, 2, tzinfo=UTC))
@example("*/7 0 28 * *", "Asia/Beirut", datetime(2027, 3, 27, tzinfo=UTC))
@example("*/30 1-3 14 * *", "America/Havana", datetime(2027, 3, 13, tzinfo=UTC))
def test_slots_are_those_of_the_clock_on_the_wall(expression: str, zone: str, after: datetime) -> None:
    upto = after + timedelta(hours=40)
    assert list(Cron(expression, zone).between(after, upto)) == by_hand(expression, zone, after, upto)


@settings(deadline=None)
@given(
    EXPRESSIONS, st.sampled_from(ZONES), INSTANTS, st.lists(st.integers(0, 60 * 36), min_size=2, max_size=5)
)
def test_slots_do_not_depend_on_when_they_are_asked_for(
    expression: str, zone: str, start: datetime, minutes: list[int]
) -> None:
    cron = Cron(expression, zone)
    first, *between, last = (start + timedelta(minutes=each, seconds=each % 60) for each in sorted(minutes))
    whole = list(cron.between(first, last))
    edges = [first, *between, last]
    parts = [slot for a, b in pairwise(edges) for slot in cron.between(a, b)]
    assert whole == parts
    assert whole == sorted(set(whole))
    assert all(first < slot <= last and slot.utcoffset() == timedelta() for slot in whole)


@settings(deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), INSTANTS, st.integers(1, 40), st.integers(0, 60 * 24 * 9))
def test_the_newest_are_the_last(expression: str, zone: str, upto: datetime, count: int, back: int) -> None:
    cron, after = Cron(expression, zone), upto - timedelta(minutes=back)
    assert cron.newest(count, after=after, upto=upto) == list(cron.between(after, upto))[-count:]


@settings(deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), INSTANTS)
# Lord Howe moves its clock by half an hour: steps of sixty minutes are half past every hour from then on.
@example("* 0 * * *", "Australia/Lord_Howe", datetime(2027, 10, 2, 16, 1, tzinfo=UTC))
def test_the_latest_and_the_next_have_nothing_between_them(expression: str, zone: str, now: datetime) -> None:
    cron = Cron(expression, zone)
    latest, following = cron.latest(now), cron.next(now)
    assert latest is not None
    assert following is not None
    assert latest <= now < following
    assert list(cron.between(latest, following)) == [following]


def test_seconds_in_front() -> None:
    start = datetime(2027, 1, 1, 12, tzinfo=UTC)
    seconds = [
        slot.second for slot in islice(Cron("*/20 * * * * *").between(start, start.replace(hour=13)), 4)
    ]
    assert seconds == [20, 40, 0, 20]
    assert list(Cron("* * * * * *").between(start, start + timedelta(seconds=3))) == [
        start + timedelta(seconds=n) for n in (1, 2, 3)
    ]


def test_rare_ones_are_found_and_what_never_comes_is_none() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    assert Cron("0 0 29 2 *").latest(now) == datetime(2024, 2, 29, tzinfo=UTC)
    assert Cron("@yearly", "Europe/Berlin").latest(now) == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert Cron("0 0 * 2 MON#5").next(now) == datetime(2044, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    "expression",
    [
        *("", "x", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "0 0 30 2 *", "0 0 31 4 *"),
        *("0 0 * * 5L/2", "0 0 L/L * *", "0 0 1 1 1-", "² * * * *", "@often", "*/0 * * * *", "L 0 * * * *"),
    ],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="is no cron expression"):
        Cron(expression)


@given(st.text(alphabet="0123456789*/-,L# WMON@", max_size=20))
def test_no_expression_fails_in_another_way(expression: str) -> None:
    try:
        Cron(expression)
    except ValueError as error:
        assert "no cron expression" in str(error) or "never comes" in str(error)  # noqa: PT017 - some are


def test_what_never_comes_is_refused() -> None:
    with pytest.raises(ValueError, match="never comes"):
        Cron("0 0 */31 * MON#5")  # a first of the month that is its fifth Monday


@pytest.mark.parametrize("zone", ["", "Mars", "Europe", "../etc/passwd", "\0", "/etc", "a" * 300])
def test_a_zone_that_there_is_not_is_named(zone: str) -> None:
    with pytest.raises(ValueError, match=r"zone .* is not known here"):
        Cron("* * * * *", zone)


def test_what_is_no_text_is_no_expression() -> None:
    with pytest.raises(TypeError, match="expression is int"):
        Cron(5)  # type: ignore[arg-type]
