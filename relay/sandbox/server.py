"""A private server, to start, stop, crash and freeze: what PostgreSQL, RabbitMQ and Valkey have in common."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from relay.sandbox import ports
from relay.sandbox.errors import StartFailed
from relay.sandbox.leash import Leash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from relay.sandbox.accounts import Account

_POLL = 0.02
_STOP_WITHIN = 30.0
_PORT_TRIES = 5
_LAST_LINES = 5
_STAMP = re.compile(r"^(\d{4}-\S+ \S+ (UTC \[\d+\]|\[\w+\] <[\d.]+>)|\d+:\w \d+ \w+ \d+ [\d:.]+ \S) *")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Another server's settings in our environment would become ours: PGDATA, RABBITMQ_NODENAME, NOTIFY_SOCKET.
_FOREIGN = ("PG", "RABBITMQ_", "ERL_", "LC_", "LANG", "NOTIFY_")


def clean_environment(**ours: str) -> dict[str, str]:
    """Our environment without what would steer a server, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, **ours}


def password(file: Path) -> str:
    """The password in a file; a random one is written to it first if it is missing.

    Other accounts of the machine reach 127.0.0.1 too, and these servers run code for whoever may log in.
    """
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text().strip()


class Server(ABC):
    """A server in a folder of its own on a free port of 127.0.0.1. Its port and data stay through restarts.

    It ends with this process, however that ends. Use it as a context manager, or call :meth:`close`.

    Args:
        folder: for its data and its log, made if it is missing.
        temporary: folders to remove at the end.
    """

    name: ClassVar[str]
    start_within: ClassVar[float] = 60.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    port_count: ClassVar[int] = 1

    def __init__(self, folder: Path, temporary: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.pid: int | None = None
        """Of the server's first process; null while it does not run."""
        self.ports: Sequence[int] = ()
        self._started_once = False
        self._leash = Leash(temporary)

    @property
    @abstractmethod
    def url(self) -> str:
        """How to connect, password included."""

    @property
    @abstractmethod
    def source(self) -> str:
        """For people: which version, from where."""

    @property
    def port(self) -> int:
        """Of 127.0.0.1, where clients connect."""
        return self.ports[0]

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server reads; the ports are known."""

    @abstractmethod
    def _commands(self) -> list[dict[str, Any]]:
        """Keyword arguments of ``Popen``: helpers first, the server last."""

    @abstractmethod
    def _knock(self) -> None:
        """Connect, as a client would.

        Raises:
            OSError: it does not answer yet; the text says how it failed.
        """

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers.

        Raises:
            StartFailed: it ended, or did not answer in time; with what its log said last.
        """
        if self.running:
            return
        for left in reversed(range(1 if self._started_once else _PORT_TRIES)):
            if not self._started_once:
                self.ports = [ports.free_port() for _ in range(self.port_count)]
            before = self._log().stat().st_size if self._log().exists() else 0
            try:
                self._prepare()
                self._launch(self._commands())
                self._await_answer()
            except StartFailed as failure:
                said = f"{self._said_since(before)}\n{failure}"
                if not (left and ports.taken(said)):
                    raise StartFailed(f"{self.name} did not start: {self._last_words(said)}") from failure
            else:
                self._started_once = True
                return

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        if self.pid is not None and self._leash.ask("poll")["exit"] is not None:
            self.pid = None
        return self.pid is not None

    def stop(self) -> None:
        """Stop it the way it likes to be stopped, by SIGKILL if it takes over 30 s. Data and port stay."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Crash it: SIGKILL to all of its processes at once."""
        self._leash.ask("kill")
        self.pid = None

    def restart(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start it.

        Args:
            how: ``fast`` as :meth:`stop` does, ``immediate`` as :meth:`kill` does.

        Raises:
            StartFailed: it did not come back.
        """
        if how == "fast":
            self.stop()
        else:
            self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze all of its processes (SIGSTOP): connections stay open and nothing answers."""
        self._leash.ask("signal", number=signal.SIGSTOP, everyone=True)

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        self._leash.ask("signal", number=signal.SIGCONT, everyone=True)

    def close(self) -> None:
        """Kill it and remove the temporary folders. Call :meth:`stop` before it to keep data well-ordered.

        Calling it again does nothing.
        """
        self.pid = None
        self._leash.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.source}, port {self.port}, {'running' if self.pid else 'stopped'}>"

    def _end(self, number: signal.Signals) -> None:
        if not self.running:
            return
        self.resume()  # a frozen process gets its signals after it has thawed
        self._leash.ask("signal", number=number, everyone=False)
        deadline = time.monotonic() + _STOP_WITHIN
        while self._leash.ask("poll")["exit"] is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        self.kill()

    def _launch(self, commands: list[dict[str, Any]]) -> None:
        self.pid = self._leash.ask("run", commands=commands, log=str(self._log()))["pid"]

    def _finish(self, command: dict[str, Any]) -> None:
        """Run a program to its end, before the server starts."""
        self._launch([command])
        while (code := self._leash.ask("poll")["exit"]) is None:
            time.sleep(_POLL)
        self.pid = None
        if code != 0:
            raise StartFailed(f"{command['args'][0]} ended with code {code}")

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_within
        while True:
            refusal = self._refusal()
            if not refusal:
                return
            ended = self._leash.ask("poll")
            if ended["exit"] is not None:
                self.pid = None
                raise StartFailed(f"{ended['who']} ended with code {ended['exit']}")
            if time.monotonic() > deadline:
                self.kill()
                raise StartFailed(f"no answer within {self.start_within:.0f} s: {refusal}")
            time.sleep(_POLL)

    def _refusal(self) -> str:
        try:
            self._knock()
        except OSError as error:
            return str(error) or repr(error)
        return ""

    def _log(self) -> Path:
        return self.folder / "log"

    def _said_since(self, before: int) -> str:
        if not self._log().exists():
            return ""
        with self._log().open("rb") as log:
            log.seek(before)
            return _COLOUR.sub("", log.read().decode(errors="replace"))

    def _last_words(self, said: str) -> str:
        """What tells why, on one line."""
        lines = [_STAMP.sub("", line).strip() for line in said.splitlines()]
        return " / ".join([line for line in lines if line][-_LAST_LINES:])


def command(
    args: Sequence[str | Path], env: Mapping[str, str], cwd: Path, account: Account
) -> dict[str, Any]:
    """Keyword arguments of ``Popen``, such as a keeper can be sent.

    Args:
        args: the program and its arguments.
        env: its whole environment.
        cwd: its working directory, which the account can enter.
        account: under which it runs.
    """
    return {"args": [str(arg) for arg in args], "env": dict(env), "cwd": str(cwd), **account.popen()}
