"""What a standby does about a holder: it watches, names or ends it, by its own clock."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers import eventually
from relays import election, settings
from roles import role
from sqlalchemy import make_url

from outbox import events
from outbox.database import LOCK_CLASS, LOCK_LEADER
from outbox.errors import Unreachable
from relay import leader as module

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from databases import Database
    from processes import Processes

    from outbox.events import Event
    from relay.leader import Election
    from relay.term import Term
    from relay.theatre.proxy import Proxy


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


def test_a_leaders_beat_keeps_it(
    candidates: Callable[..., Election], seen: list[Event], monkeypatch: Any, win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    standby = candidates(seen, stale=0.3)
    now = 1000.0
    monkeypatch.setattr(module, "clock", lambda: now)
    for _ in range(5):
        now += 0.25
        term._beaten = -1.0
        term.beat()
        assert standby.campaign() is None
    assert not [e for e in seen if isinstance(e, events.LeaderDeposed)]


def test_a_step_of_the_databases_clock_deposes_nobody(
    database: Database,
    candidates: Callable[..., Election],
    seen: list[Event],
    win: Callable[[Election], Term],
) -> None:
    win(candidates())
    database.execute("UPDATE outbox.leader SET heartbeat_at = heartbeat_at - interval '1 hour'")
    assert candidates(seen, stale=5.0).campaign() is None
    assert not [e for e in seen if isinstance(e, events.LeaderDeposed)]


def test_a_frozen_leader_is_ended_and_followed(
    database: Database,
    candidates: Callable[..., Election],
    processes: Processes,
    seen: list[Event],
    pytestconfig: pytest.Config,
) -> None:
    tests = str(pytestconfig.rootpath / "tests")
    program = FREEZE.format(tests=tests, dsn=database.dsn)
    frozen = processes.start(sys.executable, "-c", program)
    frozen.wait_event("won", term=1)
    frozen.stop()
    standby = candidates(seen, stale=1.0)
    term = eventually(standby.campaign)
    assert term.number == 2
    (deposed,) = [e for e in seen if isinstance(e, events.LeaderDeposed)]
    assert 1.0 < deposed.silent < 3.0
    term.release()


def hold(database: Database, **login: Any) -> psycopg.Connection:
    """Take the leader's lock as a stranger."""
    stranger = database.connect(**login)
    stranger.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, LOCK_LEADER])
    return stranger


def watched_until_stale(standby: Election, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "clock", lambda: now)
    for _ in range(4):
        assert standby.campaign() is None
        now += 5.0


def test_a_stranger_with_our_lock_is_named_and_left_alone(
    database: Database,
    candidates: Callable[..., Election],
    seen: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hold(database, application_name="psql") as stranger:
        watched_until_stale(candidates(seen), monkeypatch)
        foreign = [e for e in seen if isinstance(e, events.ForeignHolder)]
        assert foreign
        assert foreign[0].holder.startswith("psql (backend ")
        assert stranger.execute("SELECT 1").fetchone() == (1,)


def test_another_roles_session_is_named_although_its_start_is_hidden(
    database: Database, seen: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    with role(database, "relay") as ours, hold(database) as stranger:
        url = make_url(ours.url("psycopg")).set(drivername="postgresql")
        chosen = settings(database, heartbeat=1.0)
        standby = election(
            type(chosen)(
                database_url=url.render_as_string(hide_password=False), broker_url=chosen.broker_url
            ),
            seen,
        )
        watched_until_stale(standby, monkeypatch)
        foreign = [e for e in seen if isinstance(e, events.ForeignHolder)]
        assert foreign
        assert f"backend {stranger.info.backend_pid}" in foreign[0].holder
        standby.close()


def test_holder_is_told_to_the_log(
    candidates: Callable[..., Election], win: Callable[[Election], Term]
) -> None:
    term = win(candidates())
    assert f"backend {term.backend.pid}" in str(candidates().holder())
    term.release()
    assert candidates().holder() is None


def test_holder_of_an_unreachable_database_is_unknown(
    database: Database, candidates: Callable[..., Election], proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(database.dsn)
    between.refuse()
    chosen = settings(database)
    candidate = election(type(chosen)(database_url=between.url(database.dsn), broker_url=chosen.broker_url))
    assert candidate.holder() is None
    with pytest.raises(Unreachable):
        candidate.campaign()
