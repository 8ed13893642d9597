"""Gives a process a clock on the wall that is wrong. Scripts import it before anything of ours."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def wear(fast: Callable[[], float]) -> None:
    """Be fast from now on. After the drivers are imported, which know the real types, and before ours are.

    Args:
        fast: by how many seconds; asked at each look at the clock, which may so jump.
    """
    right = {name: getattr(time, name) for name in ("time", "time_ns")}

    class Shifted(dt.datetime):
        """A datetime that asks the wrong clock."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            """Return a wrong time."""
            return super().now(tz) + dt.timedelta(seconds=fast())

    time.time = lambda: right["time"]() + fast()
    time.time_ns = lambda: int(right["time_ns"]() + fast() * 1e9)
    dt.datetime = Shifted  # type: ignore[misc] # what is imported from now on gets this one
