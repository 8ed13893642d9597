"""A cluster of three RabbitMQ nodes loses nodes, leaders, its majority, and the way to one of them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import light
import pytest
from faults.cluster import TICK, Cluster, addresses
from faults.collector import Collector
from faults.fleet import Fleet
from faults.load import KIND, Load, Shape
from faults.pipeline import Pipeline
from helpers import eventually
from relays import Line

from relay.theatre.judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from databases import Database
    from faults.cluster import Node
    from faults.figures import Figures
    from processes import Processes
    from servers import Servers

    from relay.theatre.judge import Account, Report

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(400)]

LOAD = Shape(rate=200)
NEARBY = "near.by"
TAPE = "tape"
"""A quorum queue that nobody takes from before the end: it tells what was sent, and in which order."""


@pytest.fixture(scope="module")
def torn_cluster(servers: Servers) -> Iterator[Cluster]:
    """Ask for ``cluster``, which mends it between tests."""
    with light.folder() as folder:
        yield from servers.first("rabbitmq cluster", "auto", [("binary", Cluster(folder).__enter__)])


@pytest.fixture
def cluster(torn_cluster: Cluster) -> Cluster:
    """Three nodes to kill, freeze and cut off; it takes a quarter of a minute to start."""
    torn_cluster.mend()
    torn_cluster.handle_partitions("ignore")
    return torn_cluster


@dataclass
class Stand:
    """A cluster with queues, relays, and somebody who takes what comes.

    Args:
        cluster: the nodes.
        urls: of a virtual host, on each node.
        pipeline: whose collector is at the last node.
    """

    cluster: Cluster
    urls: list[str]
    pipeline: Pipeline

    def settle(self, account: Account, timeout: float = 60.0) -> Report:
        """Wait until all is delivered and marked; hold the collector and the tape against the account.

        Order is asked of the tape: what a consumer missed, a quorum queue may hand out in any order. Each
        message goes to both queues, so what came twice in one of them alone was doubled by the broker: a
        queue whose leader was parted from a channel may hold it twice, and no header of ours can tell.
        """
        pipeline = self.pipeline
        pipeline.collector.wait_for(account.ids, timeout)
        pipeline.wait_published(timeout)
        report = judge(account, pipeline.collector.deliveries)
        pipeline.figures.say(report)
        with Collector(self.urls[-1], TAPE, kinds=(KIND,)) as tape:
            tape.wait_for(account.ids)
        told = judge(account, tape.deliveries)
        pipeline.figures.say(f"the tape: {told}")
        assert not report.lost | report.ghosts, report
        assert not told.lost | told.ghosts | told.disordered, told
        assert not report.unflagged & told.unflagged
        ours = (report.duplicates & told.duplicates).total()
        theirs = told.duplicates.total() + report.duplicates.total() - 2 * ours
        pipeline.figures.say(f"duplicates of the relay's own: {ours}, of the broker's: {theirs}")
        ends = pipeline.fleet.events("broker_lost")
        for end in ends:
            pipeline.figures.say(f"connection ended with {end['unknown']} in flight: {end['reason']}")
        assert ours <= sum(end["unknown"] for end in ends)
        assert pipeline.database.value("SELECT count(*) FROM outbox.job WHERE attempt > 0") == 0
        return told


@pytest.fixture
def stand(
    processes: Processes, database: Database, cluster: Cluster, figures: Figures
) -> Iterator[Callable[..., Stand]]:
    """Build it: ``stand(first)`` has relays turn to the node of that number first."""
    stack: list[Collector] = []
    urls = cluster.virtual_host()

    def build(first: int, led_by: int = 2, taken_at: int = 2) -> Stand:
        for queue in (TAPE, "collected"):
            with Collector(urls[led_by], queue, kinds=(KIND,)):
                pass
        cluster.crash_proof(urls[0], TAPE, "collected")
        stack.append(Collector(urls[taken_at], kinds=(KIND,)).__enter__())
        fleet = Fleet(processes, database.dsn, addresses(urls, first))
        fleet.start(2)
        fleet.wait_leader()
        return Stand(cluster, urls, Pipeline(database, urls[0], fleet, stack[0], figures))

    yield build
    for each in stack:
        each.__exit__()


def connected_to(fleet: Fleet) -> str:
    """Return the address that the leader connected to last."""
    leader = fleet.wait_leader().process
    leader.wait_event("broker_connected")
    return str([event["broker"] for event in leader.events if event["event"] == "broker_connected"][-1])


def silence(collector: Collector, since: float) -> float:
    """Return the longest time from one new message to the next one, in seconds."""
    fresh = [each.at for each in collector.deliveries if each.at > since and not each.redelivered]
    return max((later - earlier for earlier, later in pairwise([since, *fresh])), default=float("inf"))


def in_full_flight(stand: Stand, load: Load) -> None:
    """Wait until the relay works through more than a window."""
    load.wait_committed(200)
    before = len(stand.pipeline.collector.deliveries)
    load.burst(2000)
    stand.pipeline.collector.wait_count(before + 300)


def outlast(seconds: float) -> None:
    """Let a fault last."""
    threading.Event().wait(seconds)


def test_the_node_that_the_relay_is_connected_to_dies(stand: Callable[..., Stand]) -> None:
    it = stand(first=0)
    assert f":{it.cluster.nodes[0].port}/" in connected_to(it.pipeline.fleet)
    with Load(it.pipeline.database, LOAD) as load:
        in_full_flight(it, load)
        it.cluster.nodes[0].kill()
        killed_at = time.monotonic()
        load.wait_committed(500)
        it.cluster.nodes[0].start()
        load.wait_committed(200)
    it.settle(load.account)
    gap = silence(it.pipeline.collector, killed_at)
    it.pipeline.figures.within(5.0, [gap], "longest silence until the next publish, at another node")


def test_the_leader_of_the_queues_dies(stand: Callable[..., Stand]) -> None:
    it = stand(first=0, led_by=1)
    assert it.cluster.leader(it.urls[0], "collected") is it.cluster.nodes[1]
    with Load(it.pipeline.database, LOAD) as load:
        in_full_flight(it, load)
        it.cluster.nodes[1].kill()
        killed_at = time.monotonic()
        load.wait_committed(500)
        it.cluster.nodes[1].start()
        load.wait_committed(200)
    it.settle(load.account)
    gap = silence(it.pipeline.collector, killed_at)
    it.pipeline.figures.within(10.0, [gap], "longest silence until the next publish, under another leader")


def test_two_of_three_nodes_die(stand: Callable[..., Stand]) -> None:
    """The quorum queues confirm nothing; a classic queue of the living node goes on, at its full speed."""
    it = stand(first=0, led_by=0, taken_at=0)
    database, near, classic = it.pipeline.database, Shape(rate=200, kind=NEARBY), {"x-queue-type": "classic"}
    with Collector(it.urls[0], "near", kinds=(NEARBY,), arguments=classic) as nearby:
        with Load(database, LOAD) as load, Load(database, near) as others:
            in_full_flight(it, load)
            together(*(node.kill for node in it.cluster.nodes[1:]))
            killed_at = time.monotonic()
            outlast(3.0)  # what was confirmed is marked by now
            marked = marks(database)
            outlast(12.0)
            rate = steady(nearby, 8.0)
            gap = silence(nearby, killed_at)
            assert marks(database) == marked, "marked, and confirmed by no majority"
            it.cluster.start(*it.cluster.nodes[1:])
            back_at = time.monotonic()
            back = it.pipeline.collector.first_after(back_at).at - back_at
            load.wait_committed(200)
        it.settle(load.account, 120)
        nearby.wait_for(others.account.ids)
    report = judge(others.account, nearby.deliveries)
    it.pipeline.figures.say(f"the healthy kind: {report}; without a majority {rate:.0f}/s")
    assert not report.broken, report
    assert len(it.pipeline.fleet.events("broker_lost")) <= 3
    assert rate > near.rate / 2
    it.pipeline.figures.within(13.0, [gap], "longest silence of the healthy kind")
    it.pipeline.figures.within(30.0, [back], "next publish after the majority is back")


def steady(collector: Collector, seconds: float) -> float:
    """Return how many messages a second arrive."""
    before = len(collector.deliveries)
    outlast(seconds)
    return (len(collector.deliveries) - before) / seconds


def marks(database: Database) -> int:
    """Count what is marked of the kind that goes to the quorum queues."""
    return int(
        database.value("SELECT count(*) FROM outbox.job WHERE kind = %s AND published_at IS NOT NULL", KIND)
    )


def together(*works: Callable[[], None]) -> None:
    """Do things at once."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def freeze(node: Node, cluster: Cluster) -> None:
    """Stop a node for longer than the others believe in it."""
    node.pause()
    outlast(3 * TICK)
    node.resume()


def cut(node: Node, cluster: Cluster) -> None:
    """Have a node refuse the others for a while."""
    cluster.cut_off(node)
    outlast(3 * TICK)
    cluster.join_again(node)


@pytest.mark.parametrize("part", [freeze, cut])
def test_a_node_is_parted_from_the_majority(
    stand: Callable[..., Stand], part: Callable[[Node, Cluster], None]
) -> None:
    it = stand(first=2, led_by=2, taken_at=0)
    lonely = it.cluster.nodes[2]
    it.cluster.handle_partitions("pause_minority")
    assert f":{lonely.port}/" in connected_to(it.pipeline.fleet)
    with Load(it.pipeline.database, LOAD) as load:
        in_full_flight(it, load)
        began = time.monotonic()
        thread = threading.Thread(target=part, args=(lonely, it.cluster))
        thread.start()
        thread.join(60)
        over = time.monotonic()
        eventually(lambda: answers(it.urls[2]), 60, every=0.5)
        load.wait_committed(200)
    it.settle(load.account, 120)
    gap = silence(it.pipeline.collector, began)
    it.pipeline.figures.say(f"the others and the fault took {over - began:.1f} s")
    it.pipeline.figures.within(40.0, [gap], "longest silence until the next publish, by the majority")


def answers(url: str) -> bool:
    """Whether a node takes connections."""
    try:
        Line(url).close()
    except OSError:
        return False
    return True
