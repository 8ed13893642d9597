"""What a handler may answer, and what only looks like an answer."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from handling import write

from outbox.outcomes import Bury, Cancel
from outbox.runner.delivery import Ack

if TYPE_CHECKING:
    from consuming import Shop
    from sqlalchemy.orm import Session

    from outbox.job import Job


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Bury, "returned <class 'outbox.outcomes.Bury'>: raise it"),
        (ValueError, "returned <class 'ValueError'>: raise it"),
        (ValueError("no such order"), "returned ValueError('no such order'): raise it"),
        ((each for each in ()), "returned a generator that nobody runs"),
    ],
)
def test_what_only_looks_like_an_answer_is_a_failure(
    shop: Shop, run: Any, answer: object, words: str
) -> None:
    job_id = shop.job()

    def handle(job: Job, session: Session) -> object:
        write(job, session)
        return answer

    assert run(handle).run(shop.delivery(job_id)) == Ack()
    row = shop.row(job_id)
    assert (row.state, row.attempt, shop.effects()) == ("scheduled", 1, 0)
    assert words in str(row.error)


@pytest.mark.parametrize("answer", [None, 0, False, "done", ["a"], Cancel("no").args])
def test_what_else_is_returned_means_nothing(shop: Shop, run: Any, answer: object) -> None:
    job_id = shop.job()
    assert run(lambda _job, _session: answer).run(shop.delivery(job_id)) == Ack()
    assert shop.state(job_id) == "succeeded"


@pytest.mark.parametrize(("leave", "code"), [(lambda: sys.exit(7), 7), (lambda: None, 0), (sys.exit, 0)])
def test_a_forked_child_ends_where_it_leaves_the_handler(shop: Shop, run: Any, leave: Any, code: int) -> None:
    """It has our sockets and our unacked messages: as a second consumer it would settle the same job."""
    job_id, parent = shop.job(), os.getpid()
    codes: list[int] = []

    def handle(job: Job, session: Session) -> None:
        child = os.fork()
        if child == 0:
            leave()
            return
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        write(job, session)

    verdict = run(handle).run(shop.delivery(job_id))
    if os.getpid() != parent:  # it came back with the child as well
        os._exit(99)
    assert (verdict, codes) == (Ack(), [code])
    row = shop.row(job_id)
    assert (row.state, row.attempt, shop.effects()) == ("succeeded", 1, 1)
