"""The keeper: a small process that outlives its parent by just enough to leave nothing running.

It starts a server's processes, signals them when asked, and reports their exit. It reads one JSON request
a line from its standard input and answers each with one line. The end of that input, which the kernel
brings about however the parent died (also by SIGKILL), makes it kill every process it started and remove
the folders it was given.

It does not know what the servers are. It runs by its path under ``python -I -S``: it can import the
standard library and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 50  # of SIGKILL, each for what was forked since the last listing


def _linux_processes() -> list[tuple[int, int, int]]:
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a Path for each process is slow
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended while we looked
                stat = Path("/proc", entry, "stat").read_text(errors="replace")
                state, parent, group = stat.rpartition(")")[2].split()[:3]
                if state not in "ZX":
                    found.append((int(entry), int(parent), int(group)))
    return found


def _posix_processes() -> list[tuple[int, int, int]]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="],  # noqa: S607 - ps lies elsewhere on each system
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.split() for line in listing.splitlines())
    return [(int(pid), int(parent), int(group)) for pid, parent, group, state in rows if state[0] != "Z"]


def processes() -> list[tuple[int, int, int]]:
    """Every living process of this machine.

    Returns:
        (pid, parent's pid, process group) of each; zombies are left out.
    """
    return _linux_processes() if Path("/proc/self/stat").exists() else _posix_processes()


def family(roots: set[int]) -> list[int]:
    """The processes of these roots: their groups, and their descendants in whatever group.

    PostgreSQL gives each backend a session of its own and Erlang does the same with its helpers: a signal
    to the root's process group alone would miss them.

    Args:
        roots: pids of group leaders.

    Returns:
        The pids, roots first.
    """
    table = processes()
    members = {pid for pid, _, group in table if pid in roots or group in roots}
    grown = True
    while grown:
        children = {pid for pid, parent, _ in table if parent in members} - members
        members |= children
        grown = bool(children)
    return sorted(members, key=lambda pid: (pid not in roots, pid))


class Keeper:
    """Runs one server's processes: of those that :meth:`run` starts, the last is the server itself."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._guarded: set[int] = set()

    def run(self, commands: list[dict[str, Any]], log: str) -> dict[str, Any]:
        """Start processes, each the leader of a session of its own.

        Args:
            commands: keyword arguments of ``Popen`` for each.
            log: the file to which their output is appended.

        Returns:
            ``{"pid": …}`` of the last one, or ``{"error": …}``; then none of them runs.
        """
        self.kill()
        try:
            with Path(log).open("ab") as sink:
                for command in commands:
                    self._children.append(
                        subprocess.Popen(
                            **command,
                            stdin=subprocess.DEVNULL,
                            stdout=sink,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,
                        )
                    )
        except OSError as error:
            self.kill()
            return {"error": str(error)}
        return {"pid": self._children[-1].pid}

    def poll(self) -> dict[str, Any]:
        """``{"exit": code, "who": program}``, both null while all of them run; if one ends, all do."""
        if not self._children:
            return {"exit": 0, "who": None}
        ended = next((child for child in reversed(self._children) if child.poll() is not None), None)
        if ended is None:
            return {"exit": None, "who": None}
        self.kill()
        return {"exit": ended.returncode, "who": cast("list[str]", ended.args)[0]}

    def signal(self, number: int, everyone: bool) -> dict[str, Any]:
        """Send a signal to the server, or to all of its processes, itself first.

        Args:
            number: the signal.
            everyone: also to its helpers and to all that they have started.
        """
        living = [child.pid for child in self._children if child.poll() is None]
        if everyone:
            for pid in reversed(living):  # the server first: then it cannot start others while we look
                os.kill(pid, number)
            targets = [pid for pid in family(set(living)) if pid not in living]
        else:
            targets = living[-1:]
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return {}

    def kill(self) -> dict[str, Any]:
        """End every process with SIGKILL, and wait for it."""
        roots = {child.pid for child in self._children}
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGSTOP, everyone=True)  # what is stopped starts no others
        for _ in range(_ROUNDS):
            left = family(roots) if roots else []
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for child in self._children:
                child.wait()
        self._children.clear()
        return {}

    def guard(self, pid: int) -> dict[str, Any]:
        """Promise to end a process of somebody else, and its family, when the parent is gone."""
        self._guarded.add(pid)
        return {}

    def release(self, pid: int) -> dict[str, Any]:
        """Take the promise back: its parent has waited for it, and the number may become another's."""
        self._guarded.discard(pid)
        return {}

    def close(self) -> None:
        """End all that is ours or guarded."""
        self.kill()
        for pid in family(self._guarded) if self._guarded else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request: ``{"do": name of a method, …its arguments}``."""
        arguments = dict(request)
        known: dict[str, Callable[..., dict[str, Any]]] = {
            "run": self.run,
            "poll": self.poll,
            "signal": self.signal,
            "kill": self.kill,
            "guard": self.guard,
            "release": self.release,
        }
        return known[arguments.pop("do")](**arguments)


def main(folders: list[str]) -> None:
    """Serve requests until the parent is gone.

    Args:
        folders: removed at the end.
    """
    keeper = Keeper()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with contextlib.suppress(BrokenPipeError):  # the parent died while we answered
            for line in sys.stdin:
                reply = keeper.answer(json.loads(line))
                os.write(sys.stdout.fileno(), json.dumps(reply).encode() + b"\n")
    finally:
        keeper.close()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
