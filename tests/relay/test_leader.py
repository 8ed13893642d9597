"""The election: one wins, the others watch, name or end the holder; guards against a second truth."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from helpers import eventually
from relays import election, settings
from roles import role
from sqlalchemy import make_url

from outbox import events
from outbox.database import LOCK_CLASS, LOCK_LEADER
from outbox.errors import WrongEnvironment
from relay.backend import Postponed

if TYPE_CHECKING:
    from collections.abc import Callable

    from databases import Database

    from outbox.events import Event
    from relay.leader import Election
    from relay.term import Term

FREEZE = """
import sys, time
sys.path.insert(0, {tests!r})
from relay.config import Settings
from relay.leader import Election
election = Election(Settings(database_url={dsn!r}), digest="same", broker="b", observe=print)
term = election.campaign()
sys.stderr.write('{{"event": "won", "term": %d}}\\n' % term.number)
time.sleep(600)
"""


@pytest.fixture
def seen() -> list[Event]:
    return []


def test_the_first_leads_and_the_second_stands_by(
    candidates: Callable[..., Election], seen: list[Event], win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    second = candidates(seen)
    assert second.campaign() is None
    (standing,) = seen
    assert isinstance(standing, events.StandingBy)
    assert f"backend {term.backend.pid}" in standing.holder
    term.release()


def test_terms_grow_and_tokens_are_never_the_same(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    terms = []
    for _ in range(5):
        term = win(candidates())
        terms.append((term.number, term.token))
        term.release()
    assert [number for number, _ in terms] == [1, 2, 3, 4, 5]
    assert len({token for _, token in terms}) == 5


def test_a_release_ends_the_standbys_sleep(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    standby = candidates()
    assert standby.campaign() is None
    assert standby.wait > 0
    term.release()
    # Wherever the notice arrives, be it with the answer to a statement of ours: there is nothing to wait for.
    assert standby.backend is not None
    standby.backend.row("SELECT 1")
    assert standby.wait == 0
    assert win(standby).number == 2


def test_only_one_of_many_wins_and_the_losers_hold_no_lock(
    database: Database, candidates: Callable[..., Election]
) -> None:
    everybody = [candidates() for _ in range(8)]
    for each in everybody:
        each._session()
    won: list[Term] = []
    start = threading.Barrier(8)

    def run(each: Election) -> None:
        start.wait()
        if (term := each.campaign()) is not None:
            won.append(term)

    for _ in range(10):
        threads = [threading.Thread(target=run, args=(each,)) for each in everybody]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s"
        assert database.value(query, LOCK_CLASS, LOCK_LEADER) == 1
        won.pop().release()
    assert database.value("SELECT term FROM outbox.leader") == 10


def test_a_role_with_the_relays_rights_can_lead(database: Database, win: Callable[[Election], Term]) -> None:
    with role(database, "relay") as ours:
        url = make_url(ours.url("psycopg")).set(drivername="postgresql").render_as_string(hide_password=False)
        chosen = settings(database)
        term = win(election(type(chosen)(database_url=url, broker_url=chosen.broker_url)))
        term.beat()
        term.fence()
        term.release()


def sent(term: Term) -> None:
    """Let a leader send something, and go."""
    term.fence()
    term.release()


def test_a_leader_that_sent_nothing_keeps_no_other_broker_out(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    """A first start with a misspelt address: whoever mends it must not need --take-over."""
    win(candidates(digest="misspelt")).release()
    sent(win(candidates()))
    win(candidates(digest="misspelt", take_over=True)).release()
    win(candidates()).release()


def test_a_relay_of_another_broker_is_refused_and_names_both(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    sent(win(candidates()))
    with pytest.raises(
        WrongEnvironment, match="published to broker same and this relay is set to broker other"
    ):
        candidates(digest="other").campaign()


def test_a_relay_with_another_exchange_is_told_so(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    sent(win(candidates(digest="a.b.c")))
    with pytest.raises(WrongEnvironment, match=r"broker a\.b\.c too, but with another --exchange than"):
        candidates(digest="a.x.c").campaign()
    with pytest.raises(WrongEnvironment, match=r"with another --exchange and other \[\[routes\]\] than"):
        candidates(digest="a.x.x").campaign()


def test_take_over_moves_to_another_broker(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    sent(win(candidates()))
    sent(win(candidates(digest="other", take_over=True)))
    with pytest.raises(WrongEnvironment):
        candidates(digest="same").campaign()


def test_a_standby_is_refused_once_the_leader_has_moved(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    standby = candidates()
    assert standby.campaign() is None
    term.release()
    sent(win(candidates(digest="other", take_over=True)))
    with pytest.raises(WrongEnvironment):
        eventually(standby.campaign, 3.0)


def test_without_the_leaders_row_nobody_leads_and_the_remedy_is_told(
    database: Database, candidates: Callable[..., Election]
) -> None:
    database.execute("DELETE FROM outbox.leader")
    with pytest.raises(WrongEnvironment, match="INSERT INTO outbox\\.leader DEFAULT VALUES"):
        candidates().campaign()


def test_a_database_without_our_schema_is_refused(empty_database: Database) -> None:
    with pytest.raises(WrongEnvironment, match="run outbox migrate"):
        election(settings(empty_database)).campaign()


def test_a_failure_after_the_lock_was_granted_keeps_no_lock(
    database: Database, candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    candidate = candidates()
    with database.connect(autocommit=False) as other:
        other.execute("SELECT FROM outbox.leader FOR UPDATE")
        with pytest.raises(Postponed):
            candidate.campaign()
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s"
        eventually(lambda: database.value(query, LOCK_CLASS) == 0)
        other.rollback()
    win(candidate).release()


def test_who_abstains_does_not_campaign(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    candidate = candidates()
    candidate.abstain(30.0)
    assert candidate.campaign() is None
    candidate.abstain(0.0)
    win(candidate).release()


def test_the_tip_is_the_last_position_that_was_drawn(
    database: Database, candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    assert term.tip == 0
    term.release()
    database.execute("SELECT outbox.add('a.b', '{}') FROM generate_series(1, 3)")
    term = win(candidates())
    assert term.tip == 3
    term.release()
