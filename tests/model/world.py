"""The step function: from one moment to all that may follow, and which moments are the same."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from model.consumer import consumer, operator
from model.fault import fault
from model.invariant import FINAL
from model.relay import relay
from model.state import BEGUN, DONE, OPEN, PUBLISHED, Job, Relay, World
from model.writer import writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.rules import Scope, Setting
    from model.state import Ident, Move

FAULT: Final = "fault"


def first(scope: Scope) -> World:
    """Return the world before anything has happened."""
    return World(
        jobs=tuple(Job(key=key, event=scope.events) for key in scope.keys),
        relays=(Relay(),) * scope.relays,
        bound="unbound" not in scope.odds,
        faults=scope.faults,
        spare=scope.spare,
    )


def actors(scope: Scope) -> list[Callable[[World, Setting], Iterator[Move]]]:
    """Return all who may do something, the faults last."""
    relays = [partial(_relay, n=n) for n in range(scope.relays)]
    return [writer, consumer, operator, *relays, fault]


def steps(world: World, setting: Setting) -> Iterator[Move]:
    """Return all that may follow."""
    yield from writer(world, setting)
    for n in range(len(world.relays)):
        yield from relay(world, setting, n)
    yield from consumer(world, setting)
    yield from operator(world, setting)
    yield from fault(world, setting)


def canonical(world: World, setting: Setting) -> World:
    """Return the one world that stands for all that nothing which may still happen can tell apart.

    Relays are interchangeable. What is written down for the invariants is forgotten where it cannot count any
    more. A message that is stale will be stale for ever, whichever version it had.
    """
    open_ = sum(1 << n for n, job in enumerate(world.jobs) if job.tx in {BEGUN, OPEN})
    relays = tuple(sorted(_settled(me, open_) for me in world.relays))
    to_send = {ident for me in relays for ident in me.plan + me.fenced}
    named = {ident[0] for me in relays for ident in (*me.plan, *me.fenced, *me.memory())}
    named |= {ident[0] for ident in world.queue} | {slot.ident[0] for slot in world.slots}
    jobs = tuple(_plain(job, n, to_send, over=n not in named) for n, job in enumerate(world.jobs))
    world = world._replace(jobs=jobs, relays=relays)
    if not (world.queue and setting.rules.check_version):
        return world
    return world._replace(queue=tuple(sorted(_aged(jobs, ident) for ident in world.queue)))


def _settled(me: Relay, open_: int) -> Relay:
    """Forget transactions that have ended: nobody waits for them."""
    left = me.settled[1] & open_
    return me if left == me.settled[1] else me._replace(settled=(me.settled[0], left))


def _plain(job: Job, n: int, to_send: set[Ident], *, over: bool) -> Job:
    """Forget how often versions may come that nobody will send again; of a job that is over, all the rest."""
    if job.tx != DONE:
        return job
    if over and job.state in FINAL:
        return Job(job.key, job.event, DONE, state=job.state, version=0, credit=(), effects=job.effects)
    most = 0 if job.state in FINAL or (over and job.event and job.state == PUBLISHED) else job.version
    credit = tuple(left if v == most or (n, v) in to_send else 0 for v, left in enumerate(job.credit, 1))
    return job if credit == job.credit else job._replace(credit=credit)


def _aged(jobs: tuple[Job, ...], ident: Ident) -> Ident:
    job = jobs[ident[0]]
    return (ident[0], 0) if not job.event and 0 < ident[1] < job.version else ident


def _relay(world: World, setting: Setting, n: int) -> Iterator[Move]:
    return relay(world, setting, n)
