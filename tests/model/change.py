"""Changes of the world that several actors make: a transition, an ident in and out, what a fault excuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.state import DONE, GOT, PARKED, PENDING, SCHEDULED, World
from outbox.states import NEXT_VERSION, SAME_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.state import Ident, Job, Relay, Slot

# The code's own table: the model has no other.
NEXT: Final = frozenset((str(a), str(b)) for a, b in NEXT_VERSION)
SAME: Final = frozenset((str(a), str(b)) for a, b in SAME_VERSION)
AHEAD: Final = frozenset({PENDING, PARKED, SCHEDULED})


def put(world: World, n: int, job: Job) -> World:
    """Set one job."""
    jobs = world.jobs
    return world._replace(jobs=(*jobs[:n], job, *jobs[n + 1 :]))


def seat(world: World, n: int, relay: Relay) -> World:
    """Set one relay."""
    relays = world.relays
    return world._replace(relays=(*relays[:n], relay, *relays[n + 1 :]))


def sit(world: World, n: int, *slots: Slot) -> World:
    """Set one consumer's slot, or empty it."""
    return world._replace(slots=tuple(sorted((*world.slots[:n], *slots, *world.slots[n + 1 :]))))


def broken(world: World, flaw: str) -> World:
    """Note that a promise is broken; the first one counts."""
    return world if world.flaw else world._replace(flaw=flaw)


def moved(world: World, n: int, to: str, *, same: bool = False, **changes: Any) -> World:
    """Move a job to another state, with the next version or with the same."""
    job = world.jobs[n]
    legal = (job.state, to) in (SAME if same else NEXT)
    if not same:
        changes |= {"version": job.version + 1, "credit": (*job.credit, 1), "sure": False}
    done = put(world, n, job._replace(state=to, **changes))
    return done if legal else broken(done, f"no such transition: {job.state} to {to}")


def staged(world: World, n: int, *, keep_line: bool, same: bool = False) -> World:
    """Make a job pending at a new position, in its old place in its key's line."""
    pos = world.seq + 1
    line = world.jobs[n].line if keep_line else pos
    return moved(world._replace(seq=pos), n, PENDING, same=same, pos=pos, line=line)


def excused(world: World, idents: Iterable[Ident]) -> World:
    """Let each of these be delivered once more: it was in flight at a fault."""
    jobs = list(world.jobs)
    for n, version in idents:
        credit = jobs[n].credit
        jobs[n] = jobs[n]._replace(
            credit=(*credit[: version - 1], credit[version - 1] + 1, *credit[version:])
        )
    return world._replace(jobs=tuple(jobs))


def live(world: World, ident: Ident) -> bool:
    """Whether a copy of a message is in the queue, or with a consumer that has not begun."""
    return ident in world.queue or any(slot == (ident, GOT) for slot in world.slots)


def taken(world: World, ident: Ident) -> World:
    """Have the broker take a message: here an observer looks at what was promised."""
    n, version = ident
    job = world.jobs[n]
    credit = _counted(job.credit, version, -1)
    sure = job.sure or version == job.version
    world = put(world, n, job._replace(credit=credit, sure=sure, known=True))
    world = world._replace(queue=tuple(sorted((*world.queue, ident))))
    if job.tx != DONE:
        return broken(world, f"published although it is {job.tx}")
    if credit[version - 1] < 0:
        return broken(world, "a duplicate of what was in flight at no fault")
    if not job.known and passed_over(world, job):
        return broken(world, "published before an earlier job of its key")
    return world


def passed_over(world: World, job: Job) -> bool:
    """Whether a job of the same key that was committed before this one was added has not been published."""
    earlier = (other for n, other in enumerate(world.jobs) if job.after >> n & 1 and other.key == job.key)
    return bool(job.key) and any(
        other.tx == DONE and other.state in AHEAD and not (other.known or other.excepted) for other in earlier
    )


def _counted(credit: tuple[int, ...], version: int, more: int) -> tuple[int, ...]:
    return (*credit[: version - 1], credit[version - 1] + more, *credit[version:])
