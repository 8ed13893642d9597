"""A run as people read it: step, who, what, and what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from model.state import DONE
from model.world import canonical, first, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.rules import Setting
    from model.state import Job, Relay, Step, World

NAMES = "abcdefghij"


class Trace(NamedTuple):
    """What happened, and what it broke."""

    flaw: str
    start: World
    moves: list[tuple[Step, World]]

    def __len__(self) -> int:
        """Return how many steps it has."""
        return len(self.moves)

    def __str__(self) -> str:
        """Return it as a table."""
        lines = [("", "actor", "what", "state"), ("0", "", "", _state(self.start))]
        for n, (step, world) in enumerate(self.moves, 1):
            what = step.what if step.job < 0 else f"{step.what}: {NAMES[step.job]}"
            lines.append((str(n), step.actor, what, _state(world)))
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        table = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]])
            for line in lines
        ]
        return "\n".join([f"BROKEN: {self.flaw}", *table])


def retraced(setting: Setting, seen: dict[int, int], path: Sequence[int], wrong: str) -> Trace:
    """Walk the way again, with names that stay: the search takes one relay for another."""
    world = start = first(setting.scope)
    moves = []
    for number in path:
        step, world = next(
            move for move in steps(world, setting) if seen.get(hash(canonical(move[1], setting))) == number
        )
        moves.append((step, world))
    return Trace(wrong, start, moves)


def _state(world: World) -> str:
    parts = [f"{NAMES[n]}={_job(job)}" for n, job in enumerate(world.jobs)]
    parts += [f"{n}:{_relay(me)}" for n, me in enumerate(world.relays, 1) if me.leads]
    if world.queue:
        parts.append("queue " + _idents(world.queue))
    parts += [f"consumer {_idents([slot.ident])} {slot.phase}" for slot in world.slots]
    if not world.bound:
        parts.append("nothing bound")
    return " | ".join(parts)


def _job(job: Job) -> str:
    if job.tx != DONE:
        return f"{job.tx} at {job.pos}" if job.pos else job.tx
    place = f"{job.pos}" if job.line == job.pos else f"{job.pos}, line {job.line}"
    key = f" key {job.key}" if job.key else ""
    done = f" x{job.effects}" if job.effects else ""
    return f"{job.state} v{job.version} at {place}{key}{done}{'' if job.durable else ' not on disk'}"


def _relay(me: Relay) -> str:
    words = ["leads" if me.session and me.reigns else "believes that it leads"]
    words += ["frozen"] if me.frozen else []
    for name, idents in (("read", me.plan), ("fenced", me.fenced), ("unmarked", me.unmarked)):
        if idents:
            words.append(f"{name} {_idents(idents)}")
    if me.flying:
        words.append("flying " + " ".join(f"{_idents([each.ident])}({each.word})" for each in me.flying))
    if me.front or me.settled[0]:
        words.append(f"low {me.low} front {me.front} M {me.settled[0]}")
    return " ".join(words)


def _idents(idents: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{NAMES[n]}{version}" for n, version in idents)
