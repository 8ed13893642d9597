"""Which faults come when: a seed's own sequence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

TWO_AT_ONCE: Final = 0.25
CALM: Final = (1.5, 5.0)
"""Seconds between two rounds."""


@dataclass(frozen=True, slots=True)
class Round:
    """One or two faults together, and how long all is well before."""

    calm: float
    faults: tuple[str, ...]
    lasts: float


def rounds(dice: Random, faults: Mapping[str, tuple[float, float]]) -> Iterator[Round]:
    """Yield rounds for ever; no fault comes again before all others have come.

    Args:
        dice: with the seed.
        faults: the name of each, and how long it lasts at least and at most, in seconds.
    """
    deck: list[str] = []
    while True:
        count = 2 if len(faults) > 1 and dice.random() < TWO_AT_ONCE else 1
        drawn: list[str] = []
        while len(drawn) < count:
            if not deck:
                deck = dice.sample(sorted(faults), len(faults))
            drawn.append(deck.pop())
        chosen = tuple(dict.fromkeys(drawn))
        lasts = max(dice.uniform(*faults[name]) for name in chosen)
        yield Round(dice.uniform(*CALM), chosen, lasts)
