"""A probe never passes an earlier job of its key: neither one that waits, nor one that goes out beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from relays import add, nothing, row, settings, states

from relay.broker import Broker
from relay.ledger import Ledger
from relay.routes import Routes
from relay.shift import Shift
from relay.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from databases import Database

    from relay.term import Term

EARLY, LATE = "early.kind", "late.kind"
RETRY = (
    "UPDATE outbox.job SET state = 'scheduled', version = version + 1, attempt = 1, available_at = now() "
    "WHERE id = %s"
)


@pytest.fixture
def pair(database: Database) -> tuple[UUID, UUID]:
    """Two jobs of one key, to different destinations."""
    first, second = add(database, 2, kind=(EARLY, LATE).__getitem__, key="k")
    return first, second


@pytest.fixture
def begin(database: Database, term: Term, amqp_url: str) -> Iterator[Callable[[], Shift]]:
    """Begin the work of a term: whatever is parked, it probes at once."""
    routes, chosen = Routes("outbox", ()), settings(database, amqp_url)
    broker = Broker(amqp_url, routes, Window(1000, 8_000_000), lambda _: None)
    broker.tend(nothing)

    def shift() -> Shift:
        term.beat()  # the broker may have been long in coming
        return Shift(term=term, broker=broker, routes=routes, settings=chosen, observe=lambda _: None)

    yield shift
    broker.drop()


@pytest.fixture
def ledger(database: Database, pair: tuple[UUID, UUID], term: Term) -> Ledger:
    """The first job was sent, and its handler failed; meanwhile the second one was returned and parked."""
    made = Ledger(term)
    made.mark([row(id=pair[0])])
    made.park([row(id=pair[1])], "down")
    database.execute(RETRY, pair[0])
    return made


def turn(shift: Shift) -> list[str]:
    """Do a round of the relay's work, which stages the retry; return the kinds of what goes out in it."""
    shift.do_chores()
    going = shift.gather()
    kinds = [each.kind for each in (*going, *shift._probes)]
    shift.send(going)
    return kinds


@pytest.mark.usefixtures("ledger")
def test_no_probe_goes_out_beside_an_earlier_job_of_its_key(
    begin: Callable[[], Shift], database: Database
) -> None:
    assert turn(begin()) == [EARLY]
    assert states(database) == {"pending": 1, "parked": 1}


@pytest.mark.usefixtures("ledger")
def test_no_probe_passes_an_earlier_job_whose_destination_rests(
    begin: Callable[[], Shift], database: Database
) -> None:
    shift, resting = begin(), row(kind=EARLY).destination
    shift._destinations.nacked(resting)
    shift._destinations._resting[resting].until += 60
    assert not turn(shift)
    assert states(database) == {"pending": 1, "parked": 1}


def test_of_two_destinations_that_are_down_for_one_key_the_earlier_jobs_is_probed(
    begin: Callable[[], Shift], database: Database, ledger: Ledger, pair: tuple[UUID, UUID]
) -> None:
    begin().do_chores()
    ledger.park([row(id=pair[0], version=3)], "down")  # nothing was bound for its retry either
    assert turn(begin()) == [EARLY]
    assert states(database) == {"pending": 1, "parked": 1}
