"""PostgreSQL fails over to a standby that lacks the last commits: what is sent twice, and what is a ghost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import light
import pytest
from consuming import Shop
from databases import Database
from faults.collector import Collector
from faults.fleet import Fleet, stamp
from faults.load import KIND, Load, Shape, backlog
from handling import write
from helpers import eventually
from relays import settings
from replicas import Replica
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import sessionmaker

from outbox import events
from outbox.errors import LeadershipLost
from outbox.handlers import Handlers
from relay.backend import Backend
from relay.term import Term
from relay.theatre.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from faults.figures import Figures
    from processes import Processes
    from servers import Servers
    from sqlalchemy.orm import Session

    from outbox.job import Job
    from relay.sandbox import Postgres
    from relay.theatre.judge import Account, Report, Written
    from relay.theatre.proxy import Proxy

LOAD = Shape(rate=200)
REDELIVER = 3.0
"""Seconds: a job that was done in the lost tail, and acknowledged, comes back by redelivery."""
CAUGHT_UP = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
DEAF = "SELECT count(*) FROM pg_stat_wal_receiver"
TOKEN = "SELECT token FROM outbox.leader"
LEADER = "SELECT pg_terminate_backend(pid, 2000) FROM outbox.leader"
DONE = "SELECT count(*) FROM outbox.job WHERE state = 'succeeded'"
WAITING = 50
"""Jobs, more than a consumer has in hand: its queue is not empty, and none of them is redelivered."""


class Gate:
    """Handlers that write at once, and finish only while the gate is open."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.open = threading.Event()
        self.open.set()
        self.handlers = Handlers("receipts", session=sessions)
        self.handlers(KIND)(self._handle)

    def _handle(self, job: Job, session: Session) -> None:
        write(job, session)
        session.flush()
        self.open.wait(60)


class Site(NamedTuple):
    """Two servers, an address that leads to one of them, and who works there."""

    old: Database
    new: Database
    primary: Postgres
    standby: Replica
    address: Proxy
    fleet: Fleet
    shop: Shop
    gate: Gate
    collector: Collector
    figures: Figures

    def caught_up(self) -> None:
        """Wait until the standby has all that the primary has."""
        at = self.old.value("SELECT pg_current_wal_flush_lsn()::text")
        eventually(lambda: self.new.value(CAUGHT_UP, at), 30)

    def deafen(self) -> None:
        """Let the standby get nothing more: what commits from now on is the tail that will be lost."""
        with self.new.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        eventually(lambda: self.new.value(DEAF) == 0, 30)

    def promote(self) -> float:
        """Make the standby the primary, and let the address lead there; return when."""
        assert self.new.value("SELECT pg_promote(true, 30)")
        self.address.lead_to(self.standby.url)
        return time.time()

    def finished(self, timeout: float = 60.0) -> None:
        """Wait until every job that the new primary has is done."""
        undone = "SELECT count(*) FROM outbox.job WHERE state <> 'succeeded'"
        eventually(lambda: self.new.value(undone) == 0, timeout, every=0.2)

    def judged(self, account: Account) -> Report:
        """Hold what was sent, and done, against what was committed where the new primary knows of it."""
        effects = Counter(row[0] for row in self.new.execute("SELECT job_id FROM effect"))
        return judge(account, self.collector.deliveries, effects=effects)


@pytest.fixture
def standby(servers: Servers, own_postgres: Postgres, own_database: Database) -> Iterator[Replica]:
    Shop(own_database).close()  # the table of effects
    own_database.execute("CHECKPOINT")

    def start() -> Replica:
        made = Replica(folder / "standby", own_postgres)
        made.start()
        return made

    with light.folder() as folder:
        yield from servers.first("replica", "auto", [("binary", start)])


@pytest.fixture
def site(
    own_postgres: Postgres,
    *,
    own_database: Database,
    standby: Replica,
    processes: Processes,
    amqp_url: str,
    figures: Figures,
    proxy: Callable[[str], Proxy],
) -> Iterator[Site]:
    new, address = Database(standby.url, own_database.name), proxy(own_database.dsn)
    url = make_url(own_database.url).set(port=address.port)
    engine = create_engine(url, pool_size=20, connect_args={"connect_timeout": 2})
    shop, gate = Shop(own_database, amqp_url), Gate(sessionmaker(engine))
    fleet = Fleet(processes, address.url(own_database.dsn), amqp_url)
    with Collector(amqp_url) as collector:
        yield Site(own_database, new, own_postgres, standby, address, fleet, shop, gate, collector, figures)
    gate.open.set()
    engine.dispose()
    new.engine.dispose()
    shop.close()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_a_failover_that_loses_the_tail_loses_nothing_of_what_is_left(count: int, site: Site) -> None:
    site.fleet.start(2, "--redeliver-after", str(REDELIVER))
    with site.shop.consuming(site.gate.handlers) as consumer:
        consumer.started(site.shop)
        site.fleet.wait_leader()
        site.fleet.wait_standbys()
        with Load(site.old, LOAD) as before:
            before.wait_committed(200)
        tokens = {site.old.value(TOKEN)}
        account = before.account
        account.committed += up_to_the_cut(site, count)
        tail = beyond_the_cut(site, count)
        tokens.add(site.old.value(TOKEN))
        site.primary.kill()
        moved_at = site.promote()
        gap = reigns(site, 3)[-1]["at"] - moved_at
        site.gate.open.set()
        with Load(site.new, LOAD) as after:
            after.wait_committed(200)
        account.committed += after.account.committed
        account.rolled_back |= after.account.rolled_back
        site.finished()
        eventually(lambda: tail <= missing(site), 60)
    terms = [reign["term"] for reign in reigns(site, 3)]
    told(site, site.judged(account), tail, f"tail of {2 * count} lost, terms {terms}", gap)
    assert all(fenced_off(site.new, token) for token in tokens)
    assert terms == [1, 2, 2], "the number rolled back, and only the token tells the reigns apart"


def up_to_the_cut(site: Site, count: int) -> list[Written]:
    """Commit what is published before the cut and done after it, and what is published after it."""
    site.gate.open.clear()
    published = backlog(site.old, WAITING).committed
    waiting = "SELECT count(*) FROM outbox.job WHERE state = 'pending'"
    eventually(lambda: site.old.value(waiting) == 0)
    for relay in site.fleet.relays:
        relay.stop()
    pending = backlog(site.old, count).committed
    site.caught_up()
    site.deafen()
    for relay in site.fleet.relays:
        relay.cont()
    done: int = site.old.value(DONE)
    site.gate.open.set()
    eventually(lambda: site.old.value(DONE) >= done + WAITING + count // 2, 30)
    site.gate.open.clear()
    return [*published, *pending]


def beyond_the_cut(site: Site, count: int) -> set[Hashable]:
    """Commit and publish what only the old primary has, under two leaders; nothing of it is done."""
    tail = backlog(site.old, count).ids
    site.old.execute(LEADER)
    reigns(site, 2)
    tail |= backlog(site.old, count).ids
    site.collector.wait_for(tail)  # type: ignore[arg-type] # uuids
    return tail


def reigns(site: Site, count: int) -> list[dict[str, Any]]:
    """Wait until somebody has begun to lead for the ``count``-th time; return all, the first one first."""

    def begun() -> list[dict[str, Any]]:
        found = [{**event, "at": stamp(event)} for event in site.fleet.events("leadership_gained")]
        assert len(found) >= count, [relay.story() for relay in site.fleet.relays]
        return sorted(found, key=lambda event: event["at"])

    return eventually(begun, 40)


def missing(site: Site) -> set[Hashable]:
    """Return the jobs whose message the consumer acknowledged because the database does not have them."""
    return {UUID(event.job_id) for event in site.shop.heard(events.JobMissing)}


def told(site: Site, report: Report, tail: set[Hashable], fault: str, gap: float) -> None:
    """See that all that is left was done once, and that of the tail nothing was, and nobody stumbled."""
    counts = f"{len(report.lost)} | {len(report.ghosts)} | {report.duplicates.total()}"
    ignored = len(site.shop.heard(events.JobMissing))
    site.figures.say(report)
    acts = f"goes on at the new primary | {ignored} ghosts ignored"
    site.figures.say(f"| failover, {fault} | {acts} | {counts} | {gap:.1f} s |")
    assert report.ghosts == tail
    assert not report.lost | report.unflagged | report.wrong_effects
    assert not report.disordered
    assert all(relay.running for relay in site.fleet.relays)
    assert len(site.shop.heard(events.ConsumerStarted)) == 1
    assert site.new.value("SELECT max(attempt) FROM outbox.job") == 1


def fenced_off(database: Database, token: UUID) -> bool:
    """Whether a reign of the old primary can do nothing at the new one, by whatever number."""
    backend = Backend(database.dsn)
    chosen = settings(database)
    number = database.value("SELECT term FROM outbox.leader")
    try:
        Term(backend, number, token, 0, chosen, serves={"broker": "b", "digest": "d"}).fence()
    except LeadershipLost:
        return True
    finally:
        backend.close()
    return False


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_a_leader_of_an_old_primary_that_lives_on_has_no_effect(
    count: int, site: Site, processes: Processes
) -> None:
    """No SQL fences it off: it publishes what is committed there. Consumers know none of it."""
    stranded = Fleet(processes, site.old.dsn, site.shop.broker_url)
    stranded.start(1)
    stranded.wait_leader()
    site.fleet.start(1)
    site.fleet.wait_standbys()
    with site.shop.consuming(site.gate.handlers) as consumer:
        consumer.started(site.shop)
        with Load(site.old, LOAD) as before:
            before.wait_committed(200)
        site.collector.wait_for(before.account.ids)
        eventually(lambda: site.old.value(DONE) == len(before.account.ids), 30)
        site.caught_up()
        site.deafen()
        moved_at = site.promote()
        gap = reigns(site, 1)[-1]["at"] - moved_at
        phantoms = backlog(site.old, count).ids
        with Load(site.new, LOAD) as after:
            after.wait_committed(200)
            site.collector.wait_for(phantoms)  # type: ignore[arg-type] # uuids
        account = before.account
        account.committed += after.account.committed
        account.rolled_back |= after.account.rolled_back
        site.finished()
        eventually(lambda: phantoms <= missing(site), 60)
    assert not stranded.events("leadership_given_up"), "it cannot know"
    told(site, site.judged(account), phantoms, f"old primary alive, {count} committed there", gap)
