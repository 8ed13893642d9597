"""One relay: stands for election, and while it leads reads, fences, sends, hears and marks.

A leader's memory ends with its term. Whatever it asks the database is answered only while its session stands
and its term is the one in the leader's row; else it has lost, and begins anew as a standby.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.change import broken, excused, moved, seat, taken
from model.chores import chores
from model.reading import beat, reader
from model.state import ACK, DONE, NACK, PARKED, PENDING, PUBLISHED, RETURN, Flight, Relay, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Ident, Job, Move, World


def relay(world: World, setting: Setting, n: int) -> Iterator[Move]:
    """Whatever relay ``n`` may do next."""
    me, name = world.relays[n], f"relay {n + 1}"
    if me.frozen:
        yield Step(name, "wakes"), seat(world, n, me._replace(frozen=False))
    elif not me.leads:
        yield from _candidate(world, n, name)
    else:
        yield from _line(world, setting, n, name)
        if heard(me, setting):
            yield from _desk(world, setting, n, name)
        if not heard(me, setting) or (me.late and setting.rules.trust):
            yield Step(name, "finds its term over"), seat(world, n, Relay())


def heard(me: Relay, setting: Setting) -> bool:
    """Whether the database answers its statements."""
    rules = setting.rules
    return (me.session or not rules.one_session) and (me.reigns or not rules.token)


def _candidate(world: World, n: int, name: str) -> Iterator[Move]:
    holders = [i for i, other in enumerate(world.relays) if other.leads and other.session]
    if not holders:
        others = tuple(other._replace(reigns=False) for other in world.relays)
        won = Relay(leads=True, session=True, reigns=True)
        yield Step(name, "takes lock and term"), seat(world._replace(relays=others), n, won)
    elif world.relays[holders[0]].frozen:
        silent = world.relays[holders[0]]
        ended = seat(world, holders[0], silent._replace(session=False, late=True))
        # What it has fenced and not sent is no matter: its own clock keeps it from sending.
        yield Step(name, f"ends the session of relay {holders[0] + 1}"), excused(ended, silent.memory())


def _line(world: World, setting: Setting, n: int, name: str) -> Iterator[Move]:
    """What needs the broker and no database: send, hear."""
    me = world.relays[n]
    if not (me.late and setting.rules.trust):
        if me.fenced:
            yield from _send(world, setting, n, name)
        elif me.plan and not setting.rules.fence:
            yield Step(name, "goes on without a fence"), seat(world, n, me._replace(plan=(), fenced=me.plan))
    for flight in me.flying:
        flying = tuple(other for other in me.flying if other != flight)
        i = flight.ident[0]
        if flight.word == ACK or (flight.word == RETURN and not setting.rules.heed_return):
            unmarked = tuple(sorted({*me.unmarked, flight.ident}))
            yield (
                Step(name, "hears the confirm", i),
                seat(world, n, me._replace(flying=flying, unmarked=unmarked)),
            )
        elif flight.word == NACK:
            yield Step(name, "hears a nack", i), seat(world, n, me._replace(flying=flying))
        elif heard(me, setting):
            parked = _parked(seat(world, n, me._replace(flying=flying)), flight.ident)
            yield Step(name, "hears that it was returned, and parks it", i), parked


def _send(world: World, setting: Setting, n: int, name: str) -> Iterator[Move]:
    me = world.relays[n]
    ident, *rest = me.fenced
    i = ident[0]
    gone = me._replace(fenced=tuple(rest))

    def flying(word: str) -> Relay:
        if word == ACK and setting.scope.whole_line and setting.rules.confirm_first:
            return gone._replace(unmarked=tuple(sorted({*gone.unmarked, ident})))
        return gone._replace(flying=tuple(sorted({*gone.flying, Flight(ident, word)})))

    if world.bound:
        yield Step(name, "sends it, the broker takes it", i), taken(seat(world, n, flying(ACK)), ident)
    else:
        yield Step(name, "sends it, the broker returns it", i), seat(world, n, flying(RETURN))
    if "nack" in setting.scope.odds and world.spare:
        refused = seat(world._replace(spare=world.spare - 1), n, flying(NACK))
        yield Step(name, "sends it, the broker refuses it", i), refused


def _desk(world: World, setting: Setting, n: int, name: str) -> Iterator[Move]:
    """What needs the database."""
    me = world.relays[n]
    if me.plan and setting.rules.fence and not (me.late and setting.rules.trust):
        yield Step(name, "fences"), _fenced(world, n)
    if me.plan or me.fenced:
        return
    for ident in me.unmarked if setting.rules.confirm_first else sorted(me.memory()):
        yield Step(name, "marks it", ident[0]), _marked(world, setting, n, ident)
    yield from reader(world, setting, n)
    yield from beat(world, setting, n)
    yield from chores(world, setting, n)


def _fenced(world: World, n: int) -> World:
    """Let a window go, once the term is proven and all that was read is on disk."""
    me = world.relays[n]
    jobs = tuple(_on_disk(job) for job in world.jobs)
    return seat(world._replace(jobs=jobs), n, me._replace(plan=(), fenced=me.plan))


def _on_disk(job: Job) -> Job:
    return job if job.durable or job.tx != DONE else job._replace(durable=True)


def _marked(world: World, setting: Setting, n: int, ident: Ident) -> World:
    me, (i, version) = world.relays[n], ident
    job = world.jobs[i]
    unmarked = tuple(other for other in me.unmarked if other != ident)
    world = seat(world, n, me._replace(unmarked=unmarked))
    if job.state != PENDING or (job.version != version and setting.rules.mark_version):
        return world  # it has moved on: forgotten
    if not me.reigns:
        world = broken(world, "marked by a relay whose term is over")
    if not job.sure:
        world = broken(world, "marked published in a version that the broker never took")
    return moved(world, i, PUBLISHED, same=True)


def _parked(world: World, ident: Ident) -> World:
    n, version = ident
    job = world.jobs[n]
    if job.state != PENDING or job.version != version:
        return world
    return moved(world, n, PARKED)
