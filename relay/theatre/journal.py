"""Journals: files to which processes append lines, and from which others read along."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Journal:
    """A file to which lines are appended. Threads may share it; a process that is killed loses no line of it.

    Args:
        file: where, made if it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def note(self, *words: object) -> None:
        """Append a line of words, the last of which is the time: ``time.monotonic``, as all processes see it.

        Args:
            words: without white space.
        """
        line = " ".join(map(str, [*words, f"{time.monotonic():.3f}"]))
        os.write(self._descriptor, f"{line}\n".encode())  # in one piece, and not buffered

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines:
    """The complete lines of a file that others write. One that is being written does not count yet.

    Args:
        file: may be missing still.
        from_end: leave out what is there already.
    """

    def __init__(self, file: Path, *, from_end: bool = False) -> None:
        self._file = file
        self._read = file.stat().st_size if from_end and file.exists() else 0

    def new(self) -> Iterator[str]:
        """Yield what was added since the last call."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._read)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read += len(complete + newline)
        yield from complete.decode(errors="replace").splitlines()


def entries(file: Path) -> list[list[str]]:
    """Return a journal's complete lines, in words."""
    return [line.split() for line in Lines(file).new()]
