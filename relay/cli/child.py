"""Runs a command under a lock: passes signals on, and ends it when the lock is lost.

The command is a process group of its own. It inherits the socket of the lock's session, so that the lock is
free when the last of its processes has ended and not before, even if this process is killed; a keeper sees to
it that they end then.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from outbox.errors import LockLost, OutboxError
from relay.sandbox.errors import StartFailed
from relay.term import clock
from relay.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relay.cli.runs import Turn
    from relay.sandbox.leash import Leash

PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
PROBE: Final = 1.0
"""Seconds between two questions to the server whether the lock is still ours."""


class Child:
    """A command that runs.

    Args:
        argv: program and arguments.
        turn: holds the lock.
        leash: ends the command if we are killed.
        kill_after: seconds from SIGTERM to SIGKILL, when the lock is lost.

    Raises:
        OutboxError: the command cannot be started.
    """

    def __init__(self, argv: Sequence[str], turn: Turn, leash: Leash, kill_after: float) -> None:
        self._turn, self._leash, self._kill_after = turn, leash, kill_after
        self._waiter = Waiter()
        self._argv = argv
        self._early: list[int] = []
        self._group: int | None = None

    def run(self) -> int:
        """Run it to its end.

        Returns:
            Its exit code; 128 and the signal's number if one ended it.

        Raises:
            LockLost: the lock was lost, and the command was stopped.
            OutboxError: it cannot be started.
        """
        with self._hearing():
            process = self._started()
            try:
                self._leash.ask("guard", pid=process.pid)
                self._watch(process)
            except BaseException as error:
                how = self._stop(process)
                if isinstance(error, LockLost):
                    told = f"{self._turn.name}: the lock is lost ({error}), and another may run: {how}"
                    raise LockLost(told) from None
                raise
            finally:
                with suppress(StartFailed):  # the keeper is gone; so is the command
                    self._leash.ask("release", pid=process.pid)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _started(self) -> subprocess.Popen[bytes]:
        socket = self._turn.fileno()
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._argv,
                stdin=subprocess.DEVNULL,
                pass_fds=() if socket is None else (socket,),
                process_group=0,
            )
        except OSError as error:
            raise OutboxError(f"the command cannot be started: {error}") from None
        self._group = process.pid
        for number in self._early:
            self._pass_on(number)
        return process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        ask_at = clock() + PROBE
        while process.poll() is None:
            self._waiter.wait(max(0.0, ask_at - clock()), [self._turn.fileno()])
            ask = clock() >= ask_at
            self._turn.prove(ask=ask)
            ask_at = clock() + PROBE if ask else ask_at

    def _stop(self, process: subprocess.Popen[bytes]) -> str:
        """Ask the command to end, and then make it; return how it went."""
        self._pass_on(signal.SIGTERM)
        try:
            process.wait(self._kill_after)
        except subprocess.TimeoutExpired:
            self._pass_on(signal.SIGKILL)
            process.wait()
            return f"SIGTERM did not end the command within {self._kill_after:g} s, SIGKILL did"
        return "SIGTERM has ended the command"

    def _pass_on(self, number: int) -> None:
        if self._group is None:
            self._early.append(number)
            return
        with suppress(ProcessLookupError, PermissionError):  # it has ended, all of it
            os.killpg(self._group, number)

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Pass signals on, and wake up when the command has ended."""
        before = {number: signal.signal(number, lambda n, _: self._pass_on(n)) for number in PASSED_ON}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: self._waiter.wake())
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._waiter.close()
