"""The demo's processes: their logs are in files, and they end with the demo, however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from relay.sandbox.leash import Leash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Actor:
    """One process of the demo. Its JSON log is in ``NAME.log``."""

    def __init__(self, name: str, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self.name, self._log, self._read = name, folder / f"{name}.log", 0
        with self._log.open("w") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *argv],
                env=os.environ | env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the events that it logged since the last call."""
        with self._log.open() as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith("\n"):
                    break
                self._read += len(line.encode())
                if line.startswith("{"):
                    yield json.loads(line)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Cast:
    """All processes of the demo.

    Args:
        folder: where logs and journals go.
        env: the servers' addresses.
    """

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder, self._env, self._leash = folder, env, Leash()
        self.actors: list[Actor] = []

    def start(self, name: str, *argv: str) -> Actor:
        """Start ``python -m …``; it ends when we do, even by SIGKILL."""
        actor = Actor(name, ["-m", *argv], self._folder, self._env)
        self._leash.ask("guard", pid=actor.process.pid)
        self.actors.append(actor)
        return actor

    def fallen(self) -> list[Actor]:
        """Return those that ended with an error of their own."""
        return [actor for actor in self.actors if (actor.process.poll() or 0) > 0]

    def close(self) -> None:
        """End all of them."""
        for actor in self.actors:
            if actor.running:
                actor.process.kill()
            actor.process.wait()
        self._leash.close()
