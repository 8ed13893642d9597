"""Real processes: started, listened to, frozen and killed by tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from relay.sandbox.leash import Leash

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Event = dict[str, Any]


class Process:
    """A process in a group of its own, whose standard error is read as one JSON event a line.

    Args:
        argv: program and arguments.
        env: added to our environment.
        cwd: its working directory.
    """

    def __init__(self, argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None) -> None:
        self.argv = [str(word) for word in argv]
        self._heard = threading.Condition()
        self.events: list[Event] = []
        """What it logged as JSON, oldest first."""
        self.errors: list[str] = []
        """Lines of its standard error that are not JSON."""
        self._output: list[str] = []
        self._popen = subprocess.Popen(
            self.argv,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._readers = [
            threading.Thread(target=self._read, args=(stream, note), daemon=True)
            for stream, note in ((self._popen.stdout, self._output.append), (self._popen.stderr, self._note))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def output(self) -> str:
        """Its standard output so far; all of it after :meth:`wait`."""
        return "".join(self._output)

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._popen.poll() is None

    def wait_event(self, name: str, timeout: float = 15.0, after: int = 0, **match: object) -> Event:
        """Wait until it has logged an event.

        Args:
            name: of the event, such as ``leadership_gained``.
            timeout: seconds.
            after: how many of its events, the oldest, do not count.
            match: fields that the event must have, with these values.

        Returns:
            The first such event.

        Raises:
            AssertionError: it did not come, or the process ended before; with all that it said.
        """
        wanted = {"event": name, **match}

        def found() -> Event | None:
            return next((event for event in self.events[after:] if wanted.items() <= event.items()), None)

        deadline = time.monotonic() + timeout
        with self._heard:
            while not (event := found()):
                over = not any(reader.is_alive() for reader in self._readers)
                if over or time.monotonic() > deadline:
                    raise AssertionError(f"no {wanted}: {self._why(timeout, over=over)}\n{self.story()}")
                self._heard.wait(0.05)
        return event

    def wait(self, timeout: float = 15.0) -> int:
        """Wait for its end.

        Args:
            timeout: seconds.

        Returns:
            Its exit code; negative for a signal.

        Raises:
            AssertionError: it did not end in time; with all that it said.
        """
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s\n{self.story()}") from None
        for reader in self._readers:
            reader.join(5)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group, if it lives."""
        if self.running:
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """SIGSTOP: freeze it."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: undo :meth:`stop`."""
        self.signal(signal.SIGCONT)

    def story(self) -> str:
        """What it was and all that it said, for a failure's message."""
        events = [json.dumps(event) for event in self.events]
        return "\n".join([f"$ {' '.join(self.argv)}", *self.output.splitlines(), *self.errors, *events])

    def close(self) -> None:
        """Kill it if it lives, and close the pipes."""
        self.kill()
        for stream in (self._popen.stdout, self._popen.stderr):
            if stream:
                stream.close()

    def _why(self, timeout: float, *, over: bool) -> str:
        if not over:
            return f"not within {timeout} s"
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(1)  # its pipes close a moment before it has ended
        return f"exit code {self._popen.poll()}"

    def _read(self, stream: Any, note: Callable[[str], None]) -> None:
        for line in stream:
            note(line)
        with self._heard:
            self._heard.notify_all()

    def _note(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        with self._heard:
            if isinstance(event, dict):
                self.events.append(event)
            else:
                self.errors.append(line.rstrip())
            self._heard.notify_all()


class Processes:
    """Starts processes and ends them all; also when this process is killed itself.

    Args:
        env: added to the environment of each.
        cwd: the working directory of each.
    """

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self._env = dict(env)
        self._cwd = cwd
        self._leash = Leash()
        self._started: list[Process] = []

    def start(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start any program.

        Args:
            argv: program and arguments.
            env: added to the environment.
            cwd: the working directory, if it is another than that of all.
        """
        process = Process(argv, {**self._env, **(env or {})}, cwd or self._cwd)
        self._leash.ask("guard", pid=process.pid)
        self._started.append(process)
        return process

    def outbox(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        through: Sequence[str] = (),
    ) -> Process:
        """Start ``outbox …`` as a process: ``processes.outbox("relay", "--drain")``.

        Args:
            arguments: of the command.
            env: added to the environment.
            cwd: the working directory, if it is another than that of all.
            through: a command in front of it, which becomes it.
        """
        return self.start(*through, sys.executable, "-m", "relay", *arguments, env=env, cwd=cwd)

    def close(self) -> None:
        """Kill what still lives."""
        for process in self._started:
            process.close()
        self._leash.close()
