"""Random schedules, in worlds too large to be explored whole: first anything goes, then all comes to rest."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from model.invariant import ended, flaw
from model.rules import Scope, Setting
from model.trace import Trace
from model.world import actors, first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.rules import Rules
    from model.state import Move, Step, World

    Actor = Callable[[World, Setting], Iterator[Move]]

WILD: Final = 500
"""Steps in which faults happen."""
FAIR: Final = 3000
"""Steps without a fault after which everything must have come to its end: whoever can move gets his turns."""
RESTLESS: Final = f"not at rest after {FAIR} steps in which everybody had his turns"

FAULTS: Final = ("kill", "freeze", "cut", "reset", "die", "stop")
ODDS: Final = ("fail", "cancel", "nack", "unbound", "hasty", "operate")


def drawn(chance: random.Random) -> Scope:
    """Return a world of some size, in which some things may happen."""
    grade_b, events = chance.random() < 0.3, chance.random() < 0.15
    leased = not events and chance.random() < 0.25
    kinds = {kind for kind in FAULTS if chance.random() < 0.6} | {"kill"}
    kinds |= ({"forget"} if grade_b else set()) | ({"expire"} if leased else set())
    return Scope(
        "random",
        keys=tuple(chance.choice(("", "", "k", "m")) for _ in range(chance.randrange(3, 8))),
        relays=chance.randrange(2, 4),
        faults=chance.randrange(2, 7),
        kinds=frozenset(kinds),
        spare=chance.randrange(5),
        odds=frozenset(odd for odd in ODDS if chance.random() < 0.6),
        slots=chance.randrange(1, 4),
        prefetch=chance.random() < 0.5,
        window=chance.randrange(1, 5),
        attempts=chance.randrange(1, 4),
        events=events,
        leased=leased,
        writers="slow" if chance.random() < 0.8 else "plain",
        reading=chance.random() < 0.8,
        redeliver=grade_b,
        lazy=chance.random() < 0.3,
    )


class Walk:
    """One random schedule.

    Args:
        rules: as the protocol has them, or a mutant.
        seed: the same one makes the same walk.
        scope: the world; drawn from the seed where there is none.

    Attributes:
        watch: told of each step, with the world before and after it.
    """

    def __init__(self, rules: Rules, seed: int, scope: Scope | None = None) -> None:
        self._chance = random.Random(seed)
        self._setting = Setting(rules, scope or drawn(self._chance))
        self._actors = actors(self._setting.scope)
        self._world = self._start = first(self._setting.scope)
        self.path: list[tuple[Step, World]] = []
        self.watch: Callable[[Step, World, World], None] = _nobody

    def run(self) -> Trace | None:
        """Walk to the end; return the way to a flaw, if there is one."""
        steps = self._chance.randrange(WILD)
        for _ in range(steps):
            if self._go(self._anybody()):
                return self._told(flaw(self._world))
        for _ in range(FAIR):
            if ended(self._world):
                return None
            if self._go(self._chance.choice(self._actors[:-1])):
                return self._told(flaw(self._world))
        return self._told(RESTLESS)

    def _anybody(self) -> Actor:
        """Return whose turn it is; a fault's now and then."""
        return self._actors[-1] if self._chance.random() < 0.06 else self._chance.choice(self._actors[:-1])

    def _go(self, actor: Actor) -> bool:
        """Take one of the actor's steps; return whether it broke a promise."""
        moves = list(actor(self._world, self._setting))
        if not moves:
            return False
        before = self._world
        step, self._world = self._chance.choice(moves)
        self.watch(step, before, self._world)
        self.path.append((step, self._world))
        return bool(flaw(self._world))

    def _told(self, wrong: str) -> Trace:
        return Trace(wrong, self._start, self.path)


def _nobody(step: Step, before: World, after: World) -> None:
    """Watch nothing."""
