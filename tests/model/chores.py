"""What the leader does beside publishing: stage, probe, redeliver, rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.change import broken, excused, live, moved, seat, staged
from model.reading import held
from model.state import (
    DEAD,
    DONE,
    PARKED,
    PENDING,
    PUBLISHED,
    RUNNING,
    RUNS,
    SCHEDULED,
    WORK,
    Slot,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Move, World


def chores(world: World, setting: Setting, n: int) -> Iterator[Move]:
    """Each job's chore, one at a time: a batch is many steps in a row."""
    name = f"relay {n + 1}"
    for i, job in enumerate(world.jobs):
        if job.tx != DONE:
            continue
        if job.state == SCHEDULED:
            yield Step(name, "stages it", i), staged(world, i, keep_line=setting.rules.keep_line)
        elif job.state == PARKED:
            yield from _probe(world, setting, n, i)
        elif job.state == PUBLISHED and setting.scope.redeliver and not job.event:
            yield from _redeliver(world, setting, n, i)
        elif (
            job.state == RUNNING and setting.rules.rescue and Slot((i, job.version), RUNS) not in world.slots
        ):
            yield Step(name, "takes its lease back", i), rescued(world, setting, i)


def rescued(world: World, setting: Setting, n: int) -> World:
    """Take a lease back: its consumer is gone, or too slow."""
    return moved(world, n, DEAD if world.jobs[n].attempt >= setting.scope.attempts else SCHEDULED)


def _probe(world: World, setting: Setting, n: int, i: int) -> Iterator[Move]:
    """Stage one parked job, and send it."""
    if _behind(world, setting, n, i):
        return
    if not world.bound and not world.spare:
        return  # it would come back: that costs, lest it went on for ever
    spare = world.spare if world.bound else world.spare - 1
    probed = staged(world._replace(spare=spare), i, keep_line=setting.rules.keep_line)
    plan = ((i, probed.jobs[i].version),)
    yield (
        Step(f"relay {n + 1}", "stages it as a probe", i),
        seat(probed, n, probed.relays[n]._replace(plan=plan)),
    )


def _redeliver(world: World, setting: Setting, n: int, i: int) -> Iterator[Move]:
    """Send again what was published long ago, is in no queue, and in no handler."""
    ident = (i, world.jobs[i].version)
    copy = live(world, ident)
    if setting.rules.passive_look:
        if world.queue or any(slot.phase == WORK and slot.ident[0] == i for slot in world.slots):
            return
        if copy:  # in a prefetch, which no look into the queue shows
            if not world.spare or "hasty" not in setting.scope.odds:
                return
            world = excused(world._replace(spare=world.spare - 1), [ident])
    step = Step(f"relay {n + 1}", "redelivers it", i)
    if setting.rules.same_version:
        again = staged(world, i, keep_line=setting.rules.keep_line, same=True)
        yield step, again if copy else excused(again, [ident])
    else:
        again = moved(world, i, SCHEDULED)
        yield (
            step,
            broken(again, "redelivery made a copy stale that would have done the work") if copy else again,
        )


def _behind(world: World, setting: Setting, n: int, i: int) -> bool:
    """Whether there is no room, or a job of its key is in flight, or an earlier one holds it or waits."""
    me, key = world.relays[n], world.jobs[i].key
    full = setting.scope.window <= len(me.flying) + len(me.unmarked)
    in_flight = setting.rules.one_of_key and key in {world.jobs[other].key for other, _ in me.memory()}
    return full or (bool(key) and (in_flight or (setting.rules.hold and held(world, i, PENDING))))
