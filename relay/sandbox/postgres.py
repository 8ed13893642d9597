"""A private PostgreSQL."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from relay.sandbox import accounts, binaries
from relay.sandbox.server import Server, clean_environment, command, password

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# fsync: what it holds is thrown away, so a crash of the machine may take it; a crash of the server loses
# nothing.
_SETTINGS = {
    # In the server's own folder: what lies in /dev/shm outlives a server that is killed.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "max_connections": "200",
    "timezone": "UTC",
    "unix_socket_directories": "",
    "wal_level": "replica",
}


class Postgres(Server):
    """PostgreSQL 15 or later in a folder. As root it runs as ``nobody``.

    Args:
        folder: for data and log. When ``nobody`` cannot reach it, the data lie in a temporary folder.
        source: see :func:`relay.sandbox.binaries.postgres`.
        settings: lines of postgresql.conf beside ours, which they override.

    Raises:
        Unavailable: there is no PostgreSQL.
    """

    name: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[signal.Signals] = (
        signal.SIGINT
    )  # "fast": sessions are ended, nothing is recovered later

    def __init__(
        self, folder: Path, *, source: binaries.Source = "auto", settings: Mapping[str, str] | None = None
    ) -> None:
        installed = binaries.postgres(source)
        folder = folder.absolute()
        self._account = accounts.unprivileged()
        self._home = accounts.data_folder(folder / "data", self._account)
        self._data = self._home / "pgdata"
        self._settings = {**_SETTINGS, **(settings or {})}
        super().__init__(folder, temporary=() if self._home.is_relative_to(folder) else [self._home])
        self.programs = self._runnable(installed)
        """The folder of its programs (psql, pg_dump, pg_basebackup)."""
        self._password = password(self._home / "password")
        version = binaries.version_of(installed.folder / "postgres")
        self._source = f"PostgreSQL {version}, {installed.folder}"

    @property
    def url(self) -> str:
        """``postgresql://…`` of the superuser and the database ``postgres``."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def source(self) -> str:
        """Version and folder of the programs."""
        return self._source

    def restart(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start it.

        Args:
            how: ``fast`` ends sessions and checkpoints, ``immediate`` does neither and recovers at the start.

        Raises:
            StartFailed: it did not come back.
        """
        self._end(signal.SIGINT if how == "fast" else signal.SIGQUIT)
        self.start()

    def _runnable(self, installed: binaries.Programs) -> Path:
        if self._account.may("x", installed.folder / "postgres"):
            return installed.folder
        copy = accounts.reachable_copy(installed.root, installed.parts, self._home / "programs")
        return copy / installed.folder.relative_to(installed.root)

    def _prepare(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        lines = [f"{name} = '{value}'" for name, value in {**self._settings, "port": str(self.port)}.items()]
        (self._data / "sandbox.conf").write_text("\n".join(lines) + "\n")
        (self._data / "sandbox.conf").chmod(
            0o644
        )  # the data folder is 0700, and the server may not be our account

    def _initialise(self) -> None:
        secret = self._home / "password"
        if self._account.switch:
            os.chown(secret, self._account.uid, self._account.gid)
        arguments = [
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--no-locale",
            "-N",
        ]
        self._finish(self._command("initdb", "-D", self._data, *arguments))
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write("include 'sandbox.conf'\n")  # below ALTER SYSTEM, which tests use

    def _commands(self) -> list[dict[str, Any]]:
        return [self._command("postgres", "-D", self._data)]

    def _command(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        env = clean_environment(LC_ALL="C")
        return command([self.programs / program, *arguments], env, self._home, self._account)

    def _knock(self) -> None:
        import psycopg  # noqa: PLC0415 - the sandbox of a broker needs no libpq

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error
