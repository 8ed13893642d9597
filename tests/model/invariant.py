"""What must hold in every state, beside what is looked at where it happens; and which states are the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.state import CANCELLED, DEAD, DONE, DRAWN, GONE, OPEN, PENDING, PUBLISHED, SUCCEEDED

if TYPE_CHECKING:
    from model.state import Job, World

FINAL: Final = frozenset({SUCCEEDED, DEAD, CANCELLED})


def flaw(world: World) -> str:
    """Return which promise is broken; "" for none."""
    if world.flaw:
        return world.flaw
    leaders = [me for me in world.relays if me.leads and me.session]
    if len(leaders) > 1:
        return "two relays hold the lock"
    if any(me.low and _under_water(world, me.low) for me in leaders):
        return "the low water passed a job that may still be found"
    return ""


def ended(world: World) -> bool:
    """Whether nothing is left to be done: every job that was committed has reached its end."""
    return all(job.tx == GONE or (job.tx == DONE and _final(job)) for job in world.jobs)


def _final(job: Job) -> bool:
    if job.event:
        return job.state == PUBLISHED
    return job.state in FINAL and (job.state != SUCCEEDED or job.effects == 1)


def _under_water(world: World, low: int) -> bool:
    return any(
        not job.key
        and 0 < job.pos <= low
        and (job.tx in {DRAWN, OPEN} or (job.tx == DONE and job.state == PENDING))
        for job in world.jobs
    )
