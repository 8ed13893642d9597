"""Which jobs a leader reads: by state, in two lanes, and how far it knows that nothing is to be found.

Where a scope does not care for positions, one read finds all that is pending. Where it does, the keyless lane
reads past its front, a sweep looks behind it, and the low water tells from where on:

    read M, the last position drawn;  then draw the xid B          (the heartbeat, one statement)
    a sweep lists (low, front] and tells xmin of its own snapshot   (one statement)
    xmin > B, so all that began before B has ended: low = min(M, oldest in the list - 1, front)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.change import seat
from model.state import BEGUN, DONE, OPEN, PARKED, PENDING, SCHEDULED, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Job, Move, Relay, World


def reader(world: World, setting: Setting, n: int) -> Iterator[Move]:
    """Read what may be sent now."""
    relay, name = world.relays[n], f"relay {n + 1}"
    room = setting.scope.window - len(relay.flying) - len(relay.unmarked)
    if room > 0:
        keyed = _heads(world, setting, relay)
        if not setting.scope.reading:
            found = (keyed + _lane(world, setting, relay, 0, world.seq))[:room]
            if found:
                yield Step(name, "reads"), _planned(world, n, relay, found)
            return
        if keyed:
            yield Step(name, "reads heads of keys"), _planned(world, n, relay, keyed[:room])
        ahead = _lane(world, setting, relay, relay.front, world.seq)[:room]
        if ahead:
            last = world.jobs[ahead[-1]].pos
            yield Step(name, "reads past its front"), _planned(world, n, relay._replace(front=last), ahead)
        if setting.rules.sweep and relay.front > relay.low:
            behind = _lane(world, setting, relay, relay.low, relay.front)[:room]
            yield Step(name, "sweeps"), _planned(world, n, _lowered(world, setting, relay), behind)
    if relay.listed:
        low = relay.listed - 1 if _settled(world, relay) else relay.low
        looked = relay._replace(listed=0, low=max(relay.low, min(low, relay.settled[0])))
        yield Step(name, "asks who is running"), seat(world, n, looked)


def beat(world: World, setting: Setting, n: int) -> Iterator[Move]:
    """Renew the heartbeat: the last position first, then an xid."""
    running = sum(1 << i for i, job in enumerate(world.jobs) if job.tx in {BEGUN, OPEN})
    settled = (world.seq, running if setting.rules.low_condition else 0)
    relay = world.relays[n]
    if setting.scope.reading and settled != relay.settled:
        yield Step(f"relay {n + 1}", "beats"), seat(world, n, relay._replace(settled=settled))


def _lane(world: World, setting: Setting, relay: Relay, after: int, upto: int) -> list[int]:
    """Jobs without a key in (after, upto], by position."""
    mine = _mine(relay, setting)
    found = [(job.pos, i) for i, job in enumerate(world.jobs) if waits(job) and i not in mine]
    return [i for pos, i in sorted(found) if after < pos <= upto]


def waits(job: Job) -> bool:
    """Whether the keyless lane sees it."""
    return job.state == PENDING and job.tx == DONE and not job.key


def _heads(world: World, setting: Setting, relay: Relay) -> list[int]:
    """The first in line of each key, if nothing holds it."""
    mine = _mine(relay, setting)
    busy = {world.jobs[i].key for i, _ in relay.memory()} if setting.rules.one_of_key else set()
    heads: dict[str, int] = {}
    for i, job in enumerate(world.jobs):
        if job.key and job.state == PENDING and job.tx == DONE and i not in mine and job.key not in busy:
            head = heads.get(job.key)
            if head is None or job.line < world.jobs[head].line:
                heads[job.key] = i
    return [i for i in heads.values() if not (setting.rules.hold and held(world, i))]


def held(world: World, n: int, *more: str) -> bool:
    """Whether an earlier job of its key is parked or waits for a retry, or is in one of ``more`` states."""
    job = world.jobs[n]
    return any(
        other.key == job.key
        and other.line < job.line
        and other.tx == DONE
        and (other.state in {PARKED, *more} or (other.state == SCHEDULED and other.attempt > 0))
        for other in world.jobs
    )


def _mine(relay: Relay, setting: Setting) -> set[int]:
    return {i for i, _ in relay.memory()} if setting.rules.leave_out else set()


def _planned(world: World, n: int, relay: Relay, found: list[int]) -> World:
    return seat(world, n, relay._replace(plan=tuple((i, world.jobs[i].version) for i in found)))


def _settled(world: World, relay: Relay) -> bool:
    """Whether xmin is past the xid of the heartbeat: all who ran then have ended."""
    return not any(relay.settled[1] >> i & 1 and job.tx in {BEGUN, OPEN} for i, job in enumerate(world.jobs))


def _lowered(world: World, setting: Setting, relay: Relay) -> Relay:
    """Raise the low water as far as a sweep proves that nothing is left."""
    left = [job.pos for job in world.jobs if waits(job) and relay.low < job.pos <= relay.front]
    reached = min(left) - 1 if left else relay.front
    if not setting.rules.low_at_once:
        return relay._replace(listed=reached + 1)
    if not _settled(world, relay):
        return relay
    return relay._replace(low=max(relay.low, min(reached, relay.settled[0])))
