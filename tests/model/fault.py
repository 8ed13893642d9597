"""Faults: each takes one of the world's few. What is in flight at one may be delivered once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.change import broken, excused, seat, sit
from model.chores import rescued
from model.relay import heard
from model.state import BEGUN, DONE, DRAWN, GONE, GOT, OPEN, RUNNING, RUNS, WORK, Relay, Slot, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Job, Move, World


def fault(world: World, setting: Setting) -> Iterator[Move]:
    """Whatever may go wrong next."""
    if not world.faults:
        return
    spent, kinds = world._replace(faults=world.faults - 1), setting.scope.kinds
    for n, me in enumerate(world.relays):
        if me.leads:
            yield from _relay(spent, kinds, n)
    for k in range(len(world.slots)):
        yield from _consumer(spent, setting, k)
    if "reset" in kinds:
        yield Step("fault", "the database restarts"), _reset(spent)
    if "forget" in kinds and world.queue:
        yield Step("fault", "the broker forgets its queue"), spent._replace(queue=())


def _relay(spent: World, kinds: frozenset[str], n: int) -> Iterator[Move]:
    me, name = spent.relays[n], f"relay {n + 1}"
    if "kill" in kinds:
        yield Step("fault", f"{name} is killed"), seat(excused(spent, me.memory()), n, Relay())
    if me.frozen:
        return
    if "freeze" in kinds:
        yield Step("fault", f"{name} is frozen"), seat(spent, n, me._replace(frozen=True))
    if "stop" in kinds and not (me.plan or me.fenced or me.memory()):
        yield Step("fault", f"{name} is told to stop, and begins anew"), seat(spent, n, Relay())
    if "cut" in kinds and me.flying:
        # What it had read and not sent is read again as well: the front is past it.
        anew = me._replace(flying=(), plan=(), fenced=(), front=me.low)
        unknown = [flight.ident for flight in me.flying]
        yield Step("fault", f"{name} loses the broker"), seat(excused(spent, unknown), n, anew)


def _consumer(spent: World, setting: Setting, k: int) -> Iterator[Move]:
    ((n, version), phase), kinds = spent.slots[k], setting.scope.kinds
    if "die" in kinds:
        yield Step("fault", "the consumer dies", n), _dead(spent, setting, k)
    leased = phase == RUNS and spent.jobs[n].state == RUNNING and spent.jobs[n].version == version
    leading = any(me.leads and not me.frozen and heard(me, setting) for me in spent.relays)
    if "expire" in kinds and leased and leading:
        yield Step("fault", "its lease runs out, and is taken back", n), rescued(spent, setting, n)


def _dead(world: World, setting: Setting, k: int) -> World:
    slot = world.slots[k]
    back = slot.phase != RUNS and (setting.rules.commit_first or slot.phase != WORK)
    world = sit(world, k)
    return world._replace(queue=tuple(sorted((*world.queue, slot.ident)))) if back else world


def _reset(world: World) -> World:
    """End every session and transaction, and lose the commits that were not on disk."""
    for n, me in enumerate(world.relays):
        if me.leads and me.session:
            # It may be at it, and will not know before its next statement.
            unknown = {*me.memory(), *me.fenced}
            world = seat(excused(world, unknown), n, me._replace(session=False))
    ghosts = any(job.known and not job.durable for job in world.jobs)
    slots = tuple(sorted(Slot(slot.ident, GOT if slot.phase == WORK else slot.phase) for slot in world.slots))
    world = world._replace(jobs=tuple(_rolled_back(job) for job in world.jobs), slots=slots)
    return broken(world, "published, and lost with the database's crash") if ghosts else world


def _rolled_back(job: Job) -> Job:
    lost = job.tx in {BEGUN, DRAWN, OPEN} or (job.tx == DONE and not job.durable)
    return job._replace(tx=GONE, durable=True) if lost else job
