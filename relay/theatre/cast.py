"""The processes of a performance: their logs are in files, and they end with it, however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.sandbox.leash import Leash
from relay.theatre.journal import Lines

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Mapping, Sequence


class Actor:
    """One process. Its JSON log is appended to ``NAME.log``.

    Args:
        name: of the role; one after the other may play it.
        argv: arguments of Python.
        folder: for the log.
        env: beside our own, of which nothing that configures us goes on.
    """

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name, self.argv, self._log = name, argv, folder / f"{name}.log"
        self._lines = Lines(self._log, from_end=True)
        with self._log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, *argv],
                env={**_surroundings(), **env},
                cwd=folder,  # not where an outbox.toml of the spectator may be
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.running:
            self.process.send_signal(number)

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the events that it logged since the last call."""
        for line in self._lines.new():
            if line.startswith("{"):
                yield json.loads(line)

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Cast:
    """All processes of a performance.

    Args:
        folder: where logs and journals go.
        env: the servers' addresses.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder, self._env, self._leash = folder, env, Leash()
        self.actors: list[Actor] = []

    def start(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> Actor:
        """Start ``python -m …``; it ends when we do, even by SIGKILL.

        Args:
            name: of the role.
            argv: a module and its arguments.
            env: for this one alone.
        """
        actor = Actor(name, ["-m", *argv], self._folder, {**self._env, **(env or {})})
        self._leash.ask("guard", pid=actor.process.pid)
        self.actors.append(actor)
        return actor

    def dismiss(self, actor: Actor) -> None:
        """End one, by SIGKILL if it lives still, and forget it."""
        self.actors.remove(actor)
        self._end(actor)
        self._leash.ask("release", pid=actor.process.pid)

    def fallen(self) -> list[Actor]:
        """Return those that ended with an error of their own."""
        return [actor for actor in self.actors if (actor.process.poll() or 0) > 0]

    def close(self) -> None:
        """End all of them."""
        for actor in self.actors:
            self._end(actor)
        self._leash.close()

    @staticmethod
    def _end(actor: Actor) -> None:
        if actor.running:
            actor.process.kill()
        actor.process.wait()


def _surroundings() -> dict[str, str]:
    """Return our environment without what configures us: the play must not reach the spectator's servers."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OUTBOX_") and name != "DATABASE_URL"
    }
    path = [str(Path(__file__).parents[2]), *filter(None, ours.get("PYTHONPATH", "").split(os.pathsep))]
    return ours | {"PYTHONPATH": os.pathsep.join(str(Path(folder).absolute()) for folder in path)}
