"""A hot standby of a private PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import make_url

from relay import sandbox

if TYPE_CHECKING:
    from pathlib import Path


class Replica(sandbox.Postgres):
    """A PostgreSQL that follows another one, and can be read.

    Args:
        folder: for data and log.
        primary: which it follows; it runs.

    Raises:
        Unavailable: there is no pg_basebackup.
    """

    def __init__(self, folder: Path, primary: sandbox.Postgres) -> None:
        super().__init__(folder)
        self._primary = primary.url
        self._password = str(make_url(primary.url).password)
        if not (self.programs / "pg_basebackup").exists():
            raise sandbox.Unavailable("no pg_basebackup")

    def _initialise(self) -> None:
        arguments = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "-d", self._primary]
        self._finish(self._command("pg_basebackup", "-D", self._data, *arguments))
