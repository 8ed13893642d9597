"""The judge of the fault tests, the demo and the torture finds each kind of guilt, and no other."""

from __future__ import annotations

import pytest

from relay.theatre.judge import Account, Delivery, Report, Written, judge

KINDS = ("lost", "ghosts", "unflagged", "disordered", "wrong_effects")


def account() -> Account:
    committed = [Written("first", "k"), Written("second", "k")]
    return Account(committed, rolled_back={"other"}, ambiguous={"unknown"})


def came(id_: str, *, flagged: bool = False, redelivered: bool = False) -> Delivery:
    return Delivery(id_, version=1, flagged=flagged, redelivered=redelivered, at=0.0)


ALL = [came("first"), came("second")]


def guilt(report: Report) -> dict[str, object]:
    return {kind: getattr(report, kind) for kind in KINDS if getattr(report, kind)}


def test_all_is_well() -> None:
    report = judge(account(), ALL, effects={"first": 1, "second": 1})
    assert not report.broken
    assert not report.duplicates
    assert (report.attempted, report.committed, report.delivered, report.messages) == (4, 2, 2, 2)


@pytest.mark.parametrize(
    ("deliveries", "found"),
    [
        ([came("first")], {"lost": {"second"}}),
        ([*ALL, came("other")], {"ghosts": {"other"}}),
        ([*ALL, came("nobody's")], {"ghosts": {"nobody's"}}),
        ([came("second"), came("first")], {"disordered": {"k"}}),
        ([came("first"), came("first"), came("second")], {"unflagged": {"first"}}),
    ],
)
def test_a_broken_promise_is_found(deliveries: list[Delivery], found: dict[str, object]) -> None:
    report = judge(account(), deliveries)
    assert report.broken
    assert guilt(report) == found


@pytest.mark.parametrize(
    ("effects", "wrong"),
    [
        ({"first": 1}, {"second"}),
        ({"first": 1, "second": 2}, {"second"}),
        ({"first": 1, "second": 1, "other": 1}, {"other"}),
        ({"first": 1, "second": 1, "unknown": 1}, {"unknown"}),
    ],
)
def test_what_is_not_done_exactly_once_is_found(effects: dict[object, int], wrong: set[str]) -> None:
    assert guilt(judge(account(), ALL, effects=effects)) == {"wrong_effects": wrong}


def test_a_duplicate_that_says_so_is_counted_and_no_guilt() -> None:
    report = judge(account(), [*ALL, came("first", flagged=True)])
    assert not report.broken
    assert report.duplicates == {"first": 1}


def test_what_the_broker_repeats_is_no_message_more() -> None:
    report = judge(account(), [*ALL, came("first", redelivered=True)])
    assert not report.broken
    assert not report.duplicates
    assert report.repeated == 1


def test_an_ambiguous_commit_may_come_or_not() -> None:
    assert judge(account(), ALL).recovered == 0
    report = judge(account(), [*ALL, came("unknown")], effects={"first": 1, "second": 1, "unknown": 1})
    assert (report.recovered, report.broken) == (1, False)


def test_an_ambiguous_commit_that_came_is_done_once() -> None:
    report = judge(account(), [*ALL, came("unknown")], effects={"first": 1, "second": 1})
    assert guilt(report) == {"wrong_effects": {"unknown"}}


def test_what_a_handler_got_is_not_lost_with_the_listeners_copy() -> None:
    report = judge(account(), [came("first")], handled={"second"})
    assert (report.lost, report.delivered) == (set(), 2)


def test_a_second_copy_proves_nothing_about_order_where_the_first_may_be_forgotten() -> None:
    late = [came("second"), came("first", flagged=True)]
    assert judge(account(), late).disordered == {"k"}
    assert not judge(account(), late, forgetful=True).disordered


def test_a_first_arrival_that_the_broker_repeats_proves_nothing_about_order() -> None:
    assert not judge(account(), [came("second"), came("first", redelivered=True)]).broken
    seen = [came("second"), came("first"), came("second", redelivered=True)]
    assert judge(account(), seen).disordered == {"k"}


def test_order_is_not_asked_of_jobs_without_a_key() -> None:
    loose = Account([Written("first", None), Written("second", None)])
    assert not judge(loose, [came("second"), came("first")]).broken


def test_an_event_that_a_forgetful_broker_lost_is_told_apart() -> None:
    news = Account(
        [Written("first", None), Written("news", None, event=True), Written("other", None, event=True)]
    )
    came_twice = [came("first"), came("news")]
    report = judge(news, came_twice, effects={"first": 1}, forgetful=True)
    assert (guilt(report), report.forgotten) == ({}, {"news", "other"})
    report = judge(news, came_twice, effects={"first": 1})
    assert guilt(report) == {"lost": {"other"}, "wrong_effects": {"news", "other"}}
    # Of one whose COMMIT nobody answered for, a copy arrived, and the one for its taker did not.
    news.ambiguous, news.events = {"unknown", "work"}, {"unknown"}
    report = judge(news, [*came_twice, came("unknown"), came("work")], effects={"first": 1}, forgetful=True)
    assert report.forgotten == {"news", "other", "unknown"}
    assert guilt(report) == {"wrong_effects": {"work"}}
    news.ambiguous = set()
    report = judge(news, came_twice, effects={"first": 1, "news": 2}, forgetful=True)
    assert (guilt(report), report.forgotten) == ({"wrong_effects": {"news"}}, {"other"})
