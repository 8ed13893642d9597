"""The types of the public names are part of what we promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_mypy_accepts_how_the_library_is_used() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "tests/typing/api.py"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert run.returncode == 0, run.stdout + run.stderr
