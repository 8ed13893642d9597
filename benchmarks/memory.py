"""The most memory that a relay's process ever holds, with 200,000 jobs of 1 KB waiting when it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from ground import SIZE

if TYPE_CHECKING:
    from ground import Ground

JOBS: Final = 200_000
TARGET: Final = 120.0
"""Megabytes, of a million bytes."""


def measure(ground: Ground) -> bool:
    """Print the peaks without and with keys; return whether both are below the target."""
    print(f"{JOBS} jobs of {SIZE} bytes wait when the relay starts")
    peaks = {keys: _peak(ground, keys) for keys in (0, JOBS)}
    for keys, (megabytes, seconds) in peaks.items():
        lane = f"each with a key of its own ({keys})" if keys else "without keys"
        print(
            f"{lane}: at most {megabytes:.0f} MB (target {TARGET:.0f}), all published after {seconds:.0f} s"
        )
    return all(megabytes < TARGET for megabytes, _ in peaks.values())


def _peak(ground: Ground, keys: int) -> tuple[float, float]:
    ground.fill(JOBS, keys=keys)
    urls = ["--database-url", ground.database_url, "--broker-url", ground.broker_url]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "relay", "relay", *urls, "--drain"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, left = time.monotonic() - began, ground.waiting()
    ground.clear()
    if process.returncode or left:
        raise RuntimeError(f"the relay ended with {process.returncode}, {left} jobs not published")
    unit = 1 if sys.platform == "darwin" else 1024
    return used.ru_maxrss * unit / 1e6, seconds
