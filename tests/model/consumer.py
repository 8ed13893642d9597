"""Consumers: take, look, work, commit, ack. And operators, who may cancel what is not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.change import broken, moved, put, sit
from model.state import (
    CANCELLED,
    DEAD,
    DID,
    DONE,
    GOT,
    PARKED,
    PENDING,
    PUBLISHED,
    RUNNING,
    RUNS,
    SCHEDULED,
    SUCCEEDED,
    WORK,
    Slot,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Ident, Job, Move, World

DELIVERED: Final = frozenset({PENDING, PUBLISHED})
CANCELLABLE: Final = frozenset({SCHEDULED, PENDING, PUBLISHED, PARKED})
OPERATED: Final = (
    ("buries it", DEAD, frozenset({SCHEDULED, PARKED, PENDING, PUBLISHED})),
    ("retries it", SCHEDULED, frozenset({PARKED, DEAD, CANCELLED})),
)


def consumer(world: World, setting: Setting) -> Iterator[Move]:
    """Whatever a consumer may do next."""
    if len(world.slots) < setting.scope.slots:
        for ident in sorted(set(world.queue)):
            yield from _take(world, setting, ident)
    for k, slot in enumerate(world.slots):
        if slot.phase == GOT:
            yield from _begin(world, setting, k)
        elif slot.phase == DID:
            yield Step("consumer", "acks", slot.ident[0]), sit(world, k)
        else:
            yield from _end(world, setting, k)


def _take(world: World, setting: Setting, ident: Ident) -> Iterator[Move]:
    """Take a message. Where no scope could tell the difference, all that follows is one step."""
    left = list(world.queue)
    left.remove(ident)
    slots = tuple(sorted((*world.slots, Slot(ident, GOT))))
    taken, k = world._replace(queue=tuple(left), slots=slots), slots.index((ident, GOT))
    if setting.scope.prefetch:
        yield Step("consumer", "takes its message", ident[0]), taken
    elif setting.scope.quick:
        for step, begun in _begin(taken, setting, k):
            if Slot(ident, WORK) in begun.slots:
                yield from _end(begun, setting, k)
            else:
                yield step, begun
    else:
        yield from _begin(taken, setting, k)


def _end(world: World, setting: Setting, k: int) -> Iterator[Move]:
    n = world.slots[k].ident[0]
    acked = " and acks" if setting.scope.quick else ""
    yield Step("consumer", f"commits success{acked}", n), _succeeded(world, setting, k)
    if "fail" in setting.scope.odds and world.spare:
        yield Step("consumer", f"commits a failure{acked}", n), _failed(world, setting, k)
    if "operate" in setting.scope.odds and world.spare and world.slots[k].phase == RUNS:
        yield Step("consumer", "commits that nothing is to be done", n), _given_up(world, setting, k)


def _left(world: World, setting: Setting, k: int) -> World:
    """Leave the message to be acked; under a lease it was acked before."""
    (n, version), phase = world.slots[k]
    return sit(world, k) if phase == RUNS or setting.scope.quick else sit(world, k, Slot((n, version), DID))


def operator(world: World, setting: Setting) -> Iterator[Move]:
    """Cancel a job; bind the queue again, or unbind it; bury and retry."""
    odds, spent = setting.scope.odds, world._replace(spare=world.spare - 1)
    if not world.bound:
        yield Step("consumer", "binds its queue"), world._replace(bound=True)
    if not world.spare:
        return
    if world.bound and "unbound" in odds:
        yield Step("operator", "unbinds the queue"), spent._replace(bound=False)
    for n, job in enumerate(world.jobs):
        if job.tx == DONE and not job.event:
            yield from _ordered(spent, odds, n)


def _ordered(spent: World, odds: frozenset[str], n: int) -> Iterator[Move]:
    job = spent.jobs[n]
    if "cancel" in odds and job.state in CANCELLABLE:
        yield Step("operator", "cancels it", n), moved(spent, n, CANCELLED)
    for what, to, states in OPERATED if "operate" in odds else ():
        if job.state in states:
            yield Step("operator", what, n), moved(spent, n, to, excepted=True)


def _begin(world: World, setting: Setting, k: int) -> Iterator[Move]:
    """Claim the job, look at its row, and let the handler work."""
    ident = world.slots[k].ident
    n = ident[0]
    if setting.rules.claim and any(slot.phase == WORK and slot.ident[0] == n for slot in world.slots):
        return  # another copy is at work: looked at again when that is over
    if not _current(world.jobs[n], ident, setting):
        yield Step("consumer", "finds its message stale, and acks", n), sit(world, k)
    elif setting.scope.leased:
        running = moved(world, n, RUNNING, attempt=world.jobs[n].attempt + 1)
        # The lease counts from now on, so the message may go.
        yield (
            Step("consumer", "commits its lease, and acks", n),
            sit(running, k, Slot((n, ident[1] + 1), RUNS)),
        )
    else:
        yield Step("consumer", "claims it and works", n), sit(world, k, Slot(ident, WORK))


def _current(job: Job, ident: Ident, setting: Setting) -> bool:
    if job.event:
        return not (job.adopted and setting.rules.on_conflict)
    if not setting.rules.check_version:
        return True
    return job.version == ident[1] and job.state in DELIVERED


def _succeeded(world: World, setting: Setting, k: int) -> World:
    (n, version), phase = world.slots[k]
    job = world.jobs[n]
    world = _left(world, setting, k)
    if job.event:
        if job.adopted and setting.rules.on_conflict:
            return world
        return _effect(put(world, n, job._replace(adopted=True)), n)
    if job.version == version and job.state in ({RUNNING} if phase == RUNS else DELIVERED):
        return _effect(moved(world, n, SUCCEEDED), n)
    return world if setting.rules.check_version else _effect(world, n)  # rolled back


def _effect(world: World, n: int) -> World:
    job = world.jobs[n]
    world = put(world, n, job._replace(effects=job.effects + 1))
    return broken(world, "its work was committed twice") if job.effects else world


def _failed(world: World, setting: Setting, k: int) -> World:
    (n, version), phase = world.slots[k]
    job = world.jobs[n]
    world = _left(world._replace(spare=world.spare - 1), setting, k)
    if job.event or job.version != version or job.state not in ({RUNNING} if phase == RUNS else DELIVERED):
        return world
    attempt = job.attempt + (phase != RUNS)
    return moved(world, n, DEAD if attempt >= setting.scope.attempts else SCHEDULED, attempt=attempt)


def _given_up(world: World, setting: Setting, k: int) -> World:
    (n, version), _ = world.slots[k]
    job = world.jobs[n]
    world = _left(world._replace(spare=world.spare - 1), setting, k)
    current = job.version == version and job.state == RUNNING
    return moved(world, n, CANCELLED) if current else world
