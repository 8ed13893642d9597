"""Throughput over time, and silences in it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS: Final = "▁▂▃▄▅▆▇█"


def rates(times: Sequence[float], began: float, ended: float, step: float) -> list[float]:
    """Return how many happened per second, in each step of the time.

    Args:
        times: when each happened.
        began: the beginning of the first step.
        ended: no step begins after it.
        step: seconds.
    """
    counts = [0] * max(1, int((ended - began) / step + 0.999))
    for time in times:
        place = int((time - began) / step)
        if 0 <= place < len(counts):
            counts[place] += 1
    return [count / step for count in counts]


def sparkline(values: Sequence[float]) -> str:
    """Return a line of bars; the highest value is the highest bar, and nothing is a space."""
    most = max(values, default=0) or 1
    return "".join(BARS[min(7, int(8 * value / most))] if value else " " for value in values)


def silence(times: Sequence[float], at: float, until: float) -> float:
    """Return the longest time without anything that began, or went on, between two moments.

    Args:
        times: when something happened, ascending.
        at: what was silent before it does not count.
        until: a silence that begins later does not count. One that goes on is counted to its end.
    """
    first, last = bisect_right(times, at), bisect_left(times, until)
    marks = [at, *times[first : last + 1]]
    return max((later - earlier for earlier, later in pairwise(marks)), default=0.0)
