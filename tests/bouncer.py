"""A private PgBouncer in transaction pooling, in front of one database."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from relay import sandbox
from relay.sandbox import accounts, binaries
from relay.sandbox.server import clean_environment, command

_PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin"  # sbin is on no user's PATH


class PgBouncer(sandbox.Server):
    """PgBouncer, which as root runs as ``nobody``, because it refuses to run as root.

    Args:
        folder: for its configuration.
        dsn: the database behind it.

    Raises:
        Unavailable: there is no pgbouncer.
    """

    name: ClassVar[str] = "PgBouncer"

    def __init__(self, folder: Path, dsn: str) -> None:
        program = shutil.which("pgbouncer", path=_PLACES)
        if not program:
            raise sandbox.Unavailable("install pgbouncer")
        self._program = Path(program)
        self._account = accounts.unprivileged()
        self._home = accounts.data_folder(folder / "bouncer", self._account)
        self._behind = conninfo_to_dict(dsn)
        super().__init__(folder, temporary=[self._home])

    @property
    def url(self) -> str:
        """``postgresql+psycopg://…`` of the database, through the pooler."""
        return self.dsn.replace("postgresql://", "postgresql+psycopg://")

    @property
    def dsn(self) -> str:
        """``postgresql://…`` of the database, through the pooler."""
        return f"postgresql://anybody@127.0.0.1:{self.port}/{self._behind['dbname']}"

    @property
    def source(self) -> str:
        """Version and path."""
        return f"PgBouncer {binaries.version_of(self._program)}, {self._program}"

    def _prepare(self) -> None:
        behind = " ".join(f"{key}={value}" for key, value in self._behind.items())
        lines = [
            "[databases]",
            f"{self._behind['dbname']} = {behind}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = any",
            "pool_mode = transaction",
            "default_pool_size = 20",
            "max_client_conn = 200",
        ]
        (self._home / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (self._home / "pgbouncer.ini").chmod(0o644)

    def _commands(self) -> list[dict[str, Any]]:
        arguments = [self._program, self._home / "pgbouncer.ini"]
        return [command(arguments, clean_environment(LC_ALL="C"), self._home, self._account)]

    def _knock(self) -> None:
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from error
