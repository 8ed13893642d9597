"""A wait is never negative, never over its cap, and spread where it should be."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.backoff import Backoff


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 2), (2, 4), (5, 32), (11, 2048), (12, 3600), (20, 3600)]
)
def test_the_ceiling_doubles_up_to_the_cap(attempt: int, ceiling: float) -> None:
    assert Backoff().ceiling(attempt) == ceiling


@pytest.mark.parametrize("attempt", [-(10**9), -1, 0])
def test_an_attempt_before_the_first_counts_as_the_first(attempt: int) -> None:
    assert Backoff().ceiling(attempt) == 2


@pytest.mark.parametrize("attempt", [1024, 1025, 10**6, 10**400])
def test_a_huge_attempt_neither_overflows_nor_passes_the_cap(attempt: int) -> None:
    assert Backoff(base=1.7e308).ceiling(attempt) == 3600
    assert Backoff(base=0).delay(attempt) == 0
    assert 0 <= Backoff().delay(attempt) <= 3600


def test_full_jitter_spreads_over_the_whole_range() -> None:
    random = Random(7)
    drawn = [Backoff().delay(3, random) for _ in range(10_000)]
    assert 0 <= min(drawn) < 0.1
    assert 7.9 < max(drawn) <= 8
    assert math.isclose(sum(drawn) / len(drawn), 4, rel_tol=0.03)


def test_the_same_source_of_chance_gives_the_same_waits() -> None:
    assert Backoff().delay(9, Random(1)) == Backoff().delay(9, Random(1))


def test_a_base_of_nothing_never_waits() -> None:
    assert {Backoff(base=0).delay(attempt) for attempt in range(1, 50)} == {0.0}


def test_a_fixed_back_off_waits_the_same_each_time() -> None:
    assert {Backoff.fixed(5).delay(attempt) for attempt in (1, 2, 20, 10**6)} == {5.0}


def test_without_jitter_the_wait_is_the_ceiling() -> None:
    assert [Backoff(jitter="none").delay(attempt) for attempt in (1, 2, 3)] == [2, 4, 8]


@pytest.mark.parametrize(
    "arguments",
    [{"base": -1}, {"cap": -0.1}, {"base": math.nan}, {"cap": math.inf}, {"jitter": "some"}],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(arguments: dict[str, object]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"^{name} is "):
        Backoff(**arguments)  # type: ignore[arg-type]


@given(st.floats(0, 1e308), st.floats(0, 1e308), st.integers(), st.sampled_from(["full", "none"]))
def test_every_wait_lies_between_nothing_and_the_cap(
    base: float, cap: float, attempt: int, jitter: str
) -> None:
    waited = Backoff(base=base, cap=cap, jitter=jitter).delay(attempt)  # type: ignore[arg-type]
    assert 0 <= waited <= cap
