"""An advisory lock is lost when the database restarts, and two daemons work (marten#3789)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest
from faults.collector import Collector
from faults.fleet import Fleet
from faults.load import Load, Shape
from faults.pipeline import Pipeline
from field.peers import Daemon
from field.watching import HOLDERS, Sampler
from helpers import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from databases import Database
    from faults.collector import Delivery
    from faults.figures import Figures
    from processes import Processes

    from relay.sandbox import Postgres

    How = Literal["fast", "immediate"]

pytestmark = pytest.mark.long

WINDOW = 1000
MARKS = """
SELECT published_term, min(published_at), max(published_at) FROM outbox.job
 WHERE published_term IS NOT NULL GROUP BY 1 ORDER BY 1
"""
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({HOLDERS.replace('count(DISTINCT pid)', 'pid')}) holder"


@pytest.fixture
def pipeline(
    processes: Processes, own_database: Database, amqp_url: str, figures: Figures
) -> Iterator[Pipeline]:
    """A way for jobs over a PostgreSQL of the test's own; no relay is started yet."""
    fleet = Fleet(processes, own_database.dsn, amqp_url)
    with Collector(amqp_url) as collector:
        yield Pipeline(own_database, amqp_url, fleet, collector, figures)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("losses", [1, pytest.param(10, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("how", ["fast", "immediate", "terminated"])
def test_a_lost_lock_ends_a_term_and_the_next_one_does_not_overlap_it(
    how: How | Literal["terminated"], losses: int, own_postgres: Postgres, pipeline: Pipeline
) -> None:
    gaps = []
    pipeline.fleet.start(3)
    with Sampler(pipeline.database) as sampler, Load(pipeline.database, Shape(rate=500)) as load:
        for _ in range(losses):
            term = pipeline.fleet.wait_leader().term
            in_full_flight(pipeline, load, term)
            lose_the_lock(how, own_postgres, pipeline.database)
            back_at = time.monotonic()
            gaps.append(pipeline.collector.first_of(term + 1).at - back_at)
        load.wait_committed(200)
    report = pipeline.settle(load.account, timeout=60)
    marks = pipeline.database.execute(MARKS)
    overlaps = [late[0] for early, late in pairwise(marks) if early[2] >= late[1]]
    late = late_words(pipeline.collector.deliveries)
    pipeline.figures.say(f"{len(marks)} terms, marks that overlap: {len(overlaps)}; {sampler}")
    pipeline.figures.say(f"messages of a term after the next one's first: {late.total()}")
    pipeline.figures.within(5.0, gaps, "next publish after the loss, with the database there")
    assert len(marks) > losses
    assert not overlaps, marks
    assert sampler.most == 1
    assert all(count <= WINDOW for count in late.values()), late
    assert report.duplicates.total() <= losses * WINDOW, "more than was in flight"


def lose_the_lock(how: How | Literal["terminated"], server: Postgres, database: Database) -> None:
    """Restart the server, or end the leader's session alone: then nothing delays its successor."""
    if how == "terminated":
        assert database.execute(TERMINATE) == [(True,)]
    else:
        server.restart(how)


def in_full_flight(pipeline: Pipeline, load: Load, term: int) -> None:
    """Wait until the term has marked something, and works through more than a window."""
    marked = "SELECT count(*) FROM outbox.job WHERE published_term = %s"
    eventually(lambda: pipeline.database.value(marked, term), 30)
    before = len(pipeline.collector.deliveries)
    load.burst(2000)
    pipeline.collector.wait_count(before + random.randint(100, 1500))


def late_words(deliveries: Sequence[Delivery]) -> Counter[int]:
    """Count, by term, the messages that came after the first one of a later term."""
    late: Counter[int] = Counter()
    latest = 0
    for each in deliveries:
        if each.redelivered:  # the broker's own repetition is no word of the leader
            continue
        latest = max(latest, each.term)
        late[each.term] += each.term < latest
    return +late


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_control_a_lock_that_is_remembered_is_held_by_two_after_a_restart(
    how: How, own_postgres: Postgres, own_database: Database, figures: Figures
) -> None:
    own_database.execute("CREATE TABLE peer_job AS SELECT id, false AS done FROM generate_series(1, 9) id")
    done: list[int] = []
    alone = threading.Barrier(1)
    old = Daemon(own_database, done, meet=alone.wait)
    standby = Daemon(own_database, done, meet=alone.wait)
    assert (old.turn(), standby.turn()) == (1, 0)
    assert (old.has_lock, standby.has_lock) == (True, False)

    own_postgres.restart(how)
    both = threading.Barrier(2, timeout=20)
    old.meet = standby.meet = both.wait  # each has read which job is next before either does it
    with ThreadPoolExecutor(2) as pool:
        marked = list(pool.map(Daemon.turn, (old, standby)))
    assert (old.has_lock, standby.has_lock) == (True, True)
    assert own_database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
    assert sorted(marked) == [0, 1], "one of them learns it from the table, and too late"
    assert Counter(done) == {1: 1, 2: 2}
    old.close()
    standby.close()
    figures.say(f"{how} restart: 2 daemons at work, the same job done {Counter(done)[2]} times")
