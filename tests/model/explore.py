"""Visits every state that can be reached, the nearest first, so that a trace to a flaw is a shortest one."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from model.invariant import ended, flaw
from model.trace import retraced
from model.world import FAULT, canonical, first, steps

if TYPE_CHECKING:
    from model.rules import Setting
    from model.state import World
    from model.trace import Trace

STRANDED = "stranded: without a further fault nobody will ever bring every job to its end"


class Explored(NamedTuple):
    """What an exploration found.

    Args:
        states: how many were visited.
        moves: how many steps between them.
        depth: how far the farthest is from the beginning.
        trace: the shortest way to a flaw; None if there is none.
    """

    states: int
    moves: int
    depth: int
    trace: Trace | None


class Unfinished(Exception):
    """There are more states than expected."""


def explore(setting: Setting, most: int = 2_000_000) -> Explored:
    """Visit every state of a scope.

    Args:
        setting: rules and scope.
        most: states, at most.

    Raises:
        Unfinished: there are more.
    """
    return _Search(setting, most).run()


class _Search:
    """States are numbered as they are found; of most of them only the hash is kept."""

    def __init__(self, setting: Setting, most: int) -> None:
        self._setting, self._most = setting, most
        self._seen: dict[int, int] = {}
        self._parent = array("l")
        self._ends: list[int] = []
        self._from, self._to = array("l"), array("l")
        self._moves = self._depth = 0

    def run(self) -> Explored:
        start = canonical(first(self._setting.scope), self._setting)
        self._number(start, -1)
        layer = [(0, start)]
        while layer:
            following: list[tuple[int, World]] = []
            for number, world in layer:
                wrong = flaw(world)
                if wrong:
                    return self._found(number, wrong)
                if ended(world):
                    self._ends.append(number)
                following += self._expand(number, world)
            layer = following
            self._depth += bool(layer)
        stranded = self._stranded()
        if stranded is not None:
            return self._found(stranded, STRANDED)
        return Explored(len(self._parent), self._moves, self._depth, None)

    def _expand(self, number: int, world: World) -> list[tuple[int, World]]:
        new = []
        for step, after in steps(world, self._setting):
            self._moves += 1
            same = canonical(after, self._setting)
            known = self._seen.get(hash(same))
            if known is None:
                known = self._number(same, number)
                new.append((known, same))
            if step.actor != FAULT:
                self._from.append(number)
                self._to.append(known)
        return new

    def _number(self, world: World, parent: int) -> int:
        number = len(self._parent)
        if number >= self._most:
            raise Unfinished(f"more than {self._most:,} states")
        self._seen[hash(world)] = number
        self._parent.append(parent)
        return number

    def _stranded(self) -> int | None:
        """Return the first state from which no end is reached by steps that are no faults."""
        count = len(self._parent)
        starts = array("l", [0]) * (count + 1)
        for to in self._to:
            starts[to + 1] += 1
        for n in range(count):
            starts[n + 1] += starts[n]
        cursor, sources = array("l", starts), array("l", [0]) * len(self._to)
        for source, to in zip(self._from, self._to, strict=True):
            sources[cursor[to]] = source
            cursor[to] += 1
        fine = bytearray(count)
        stack = list(self._ends)
        for n in stack:
            fine[n] = 1
        while stack:
            n = stack.pop()
            for source in sources[starts[n] : starts[n + 1]]:
                if not fine[source]:
                    fine[source] = 1
                    stack.append(source)
        found = fine.find(0)
        return None if found < 0 else found

    def _found(self, number: int, wrong: str) -> Explored:
        path = []
        while number > 0:
            path.append(number)
            number = self._parent[number]
        trace = retraced(self._setting, self._seen, path[::-1], wrong)
        return Explored(len(self._parent), self._moves, self._depth, trace)
