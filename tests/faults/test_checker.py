"""The judge of the fault tests finds each kind of guilt, and no other."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from faults.checker import Account, Report, Written, judge
from faults.collector import Delivery

FIRST, SECOND, OTHER = (uuid.UUID(int=n) for n in range(3))


def account() -> Account:
    return Account([Written(FIRST, "k"), Written(SECOND, "k")], rolled_back={OTHER})


def came(id_: uuid.UUID, *, flagged: bool = False, redelivered: bool = False) -> Delivery:
    return Delivery(id_, version=1, term=1, key="k", flagged=flagged, redelivered=redelivered, at=0.0)


def test_all_is_well() -> None:
    report = judge(account(), [came(FIRST), came(SECOND)])
    assert not report.broken
    assert not report.duplicates


@pytest.mark.parametrize(
    ("deliveries", "found"),
    [
        ([came(FIRST)], {"lost": {SECOND}}),
        ([came(FIRST), came(SECOND), replace(came(OTHER), key=None)], {"ghosts": {OTHER}}),
        ([came(SECOND), came(FIRST)], {"disordered": {"k"}}),
        ([came(FIRST), came(FIRST), came(SECOND)], {"unflagged": {FIRST}}),
    ],
)
def test_a_broken_promise_is_found(deliveries: list[Delivery], found: dict[str, object]) -> None:
    report = judge(account(), deliveries)
    assert report.broken
    assert guilt(report) == found


def guilt(report: Report) -> dict[str, object]:
    kinds = ("lost", "ghosts", "unflagged", "disordered")
    return {kind: getattr(report, kind) for kind in kinds if getattr(report, kind)}


def test_a_duplicate_that_says_so_is_counted_and_no_guilt() -> None:
    report = judge(account(), [came(FIRST), came(SECOND), came(FIRST, flagged=True)])
    assert not report.broken
    assert report.duplicates == {FIRST: 1}


def test_what_the_broker_repeats_is_no_message_more() -> None:
    report = judge(account(), [came(FIRST), came(SECOND), came(FIRST, redelivered=True)])
    assert not report.broken
    assert not report.duplicates


def test_an_ambiguous_commit_may_come_or_not() -> None:
    ambiguous = Account([Written(FIRST, "k")], ambiguous={OTHER})
    assert not judge(ambiguous, [came(FIRST)]).broken
    assert not judge(ambiguous, [came(FIRST), came(OTHER)]).broken
