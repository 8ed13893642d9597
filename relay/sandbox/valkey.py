"""A private Valkey or Redis."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, ClassVar

from relay.sandbox import accounts, binaries
from relay.sandbox.server import Server, clean_environment, command, password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SETTINGS = {
    "appendonly": "yes",
    "bind": "127.0.0.1",
    "databases": "64",
    "dir": ".",
    "save": '""',
}


class Valkey(Server):
    """One Valkey (or Redis) in a folder, under the account of its parent, with an append-only file.

    Args:
        folder: for data and log.
        source: see :func:`relay.sandbox.binaries.valkey`.
        settings: lines of valkey.conf beside ours, which they override.

    Raises:
        Unavailable: there is neither.
    """

    name: ClassVar[str] = "Valkey"
    start_within: ClassVar[float] = 30.0

    def __init__(
        self, folder: Path, *, source: binaries.Source = "auto", settings: Mapping[str, str] | None = None
    ) -> None:
        self._program = binaries.valkey(source)
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self._password = password(folder / "password")
        self._settings = {**_SETTINGS, "requirepass": self._password, **(settings or {})}
        product = "Redis" if self._program.name.startswith("redis") else "Valkey"
        self._source = f"{product} {binaries.version_of(self._program)}, {self._program.parent}"

    @property
    def url(self) -> str:
        """``redis://…`` of database 0."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def source(self) -> str:
        """Version and folder of the program."""
        return self._source

    def _prepare(self) -> None:
        lines = [f"{name} {value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        (self.folder / "valkey.conf").touch(mode=0o600)
        (self.folder / "valkey.conf").write_text("\n".join(lines) + "\n")

    def _commands(self) -> list[dict[str, Any]]:
        arguments = [self._program, self.folder / "valkey.conf"]
        return [command(arguments, clean_environment(LC_ALL="C"), self.folder, accounts.ours())]

    def _knock(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            said = connection.makefile("rb")
            answers = (said.readline() + said.readline()).decode(errors="replace")
        if answers != "+OK\r\n+PONG\r\n":
            raise ConnectionError(answers.strip())
