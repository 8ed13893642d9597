"""Breaks the code on purpose, in a copy of the tree, and runs the one test there that must go red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("outbox", "relay", "alembic", "tests")
FILES = ("pyproject.toml", "alembic.ini", "README.md", "LICENSE")


class Mutant(NamedTuple):
    """What is broken, and who must notice."""

    name: str
    file: str
    old: str
    new: str
    test: str


class Unfit(Exception):
    """The mutant's code is not there any more, or there twice: it has to be written anew."""


def check(mutant: Mutant) -> None:
    """Make sure that a mutant can be made.

    Raises:
        Unfit: it cannot.
    """
    found = (ROOT / mutant.file).read_text().count(mutant.old)
    if found != 1:
        raise Unfit(f"{mutant.name}: {mutant.old!r} is {found} times in {mutant.file}")
    if mutant.old == mutant.new or not (ROOT / mutant.test.partition("::")[0]).is_file():
        raise Unfit(f"{mutant.name}: changes nothing, or {mutant.test} does not exist")


def survives(mutant: Mutant, folder: Path) -> str | None:
    """Make a mutant in ``folder`` and run its test there; return what the test said if it stayed green.

    Raises:
        Unfit: it cannot be made, or its test did not run at all.
    """
    check(mutant)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    broken = folder / mutant.file
    broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == 0 and " passed" in done.stdout:
        return done.stdout
    if done.returncode == 1 and " failed" in done.stdout:
        return None
    raise Unfit(f"{mutant.name}: its test did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
