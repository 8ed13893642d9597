"""Says how long to wait before the next try. Does not wait, and does not count the tries."""

from __future__ import annotations

import math
import random as random_module
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from random import Random

LONGEST_DELAY: Final = timedelta(days=365_000)
"""PostgreSQL goes on to the year 294276, Python's datetime to 9999."""

_MAX_DOUBLINGS = 1023  # the largest power of two that a float holds; beyond it `2.0**n` raises OverflowError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off under a cap.

    Full jitter (a time between nothing and the ceiling) is the default: jobs that failed together, because
    one database or one partner was down, must not come back together.

    Args:
        base: Ceiling of the first wait, in seconds; it doubles with each attempt. 0 waits never.
        cap: Ceiling of every wait, in seconds.
        jitter: `"full"` draws the wait evenly from [0, ceiling]; `"none"` waits for the ceiling itself.

    Raises:
        ValueError: A duration is negative or not finite, or `jitter` is neither of the two words.
    """

    base: float = 2.0
    cap: float = 3600.0
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        for name, seconds in (("base", self.base), ("cap", self.cap)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{name} is a number of seconds, 0 or more, not {seconds!r}")
        if self.jitter not in ("full", "none"):
            raise ValueError(f'jitter is "full" or "none", not {self.jitter!r}')

    @classmethod
    def fixed(cls, seconds: float) -> Backoff:
        """Return a back-off that waits `seconds` after every attempt.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        return cls(base=seconds, cap=seconds, jitter="none")

    def ceiling(self, attempt: int) -> float:
        """Return the longest wait after attempt number `attempt` (the first is 1), in seconds."""
        doublings = min(max(attempt - 1, 0), _MAX_DOUBLINGS)
        return min(self.cap, self.base * 2.0**doublings)

    def delay(self, attempt: int, random: Random | None = None) -> float:
        """Return how long to wait after attempt number `attempt` failed.

        Args:
            attempt: The attempt that failed; the first is 1, and what is less counts as 1.
            random: Source of the jitter; the process's own by default.

        Returns:
            Seconds, between 0 and `cap`.
        """
        ceiling = self.ceiling(attempt)
        if self.jitter == "none":
            return ceiling
        return (random or random_module).uniform(0.0, ceiling)
