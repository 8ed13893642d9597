"""A small disk for a private PostgreSQL, to be filled and freed again: nobody else sees it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from relay import sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.sandbox import accounts

_MOUNT = """mount -t tmpfs -o "size=$2m,mode=0777" outbox-tests "$1" && echo mounted && exec cat"""
_SMALL_WAL = {"min_wal_size": "2MB", "max_wal_size": "4MB"}


class Disk:
    """A file system in memory, mounted in a namespace of its own.

    It ends with the last process in there: ours, which reads from a pipe that we hold, or a server's. So no
    mount is left over, also when we are killed.

    Args:
        folder: made for it; others see it empty.
        megabytes: its size.

    Raises:
        Unavailable: mounting is not allowed here.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.point = folder
        self.source = f"{megabytes} MB of memory, mounted in a namespace"
        folder.mkdir(parents=True)
        if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "mount"))):
            raise sandbox.Unavailable("mounting needs root, unshare, nsenter and setpriv")
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                _MOUNT,
                "sh",
                folder,
                str(megabytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.inside = Path(f"/proc/{self._holder.pid}/root{folder}")
        """Its path for us, who are not in the namespace."""
        if not self._said(self._holder.stdout).startswith(b"mounted"):
            reason = self._said(self._holder.stderr).decode(errors="replace").strip()
            self.close()
            raise sandbox.Unavailable(f"mounting is not allowed: {reason}")

    def entered(self, command: dict[str, Any], account: accounts.Account) -> dict[str, Any]:
        """Return a server's command as one that runs in the namespace, under its account."""
        kept = {name: value for name, value in command.items() if name not in account.popen()}
        enter = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]
        drop = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]
        return {**kept, "args": [*enter, *drop, *command["args"]]}

    def fill(self) -> None:
        """Leave no byte of room."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1_000_000, 4096):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError as full:
                    if full.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Undo :meth:`fill`."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        with self._holder:  # closes its pipes: it reads their end, and ends
            if self._holder.stdin:
                self._holder.stdin.close()

    @property
    def _ballast(self) -> Path:
        return self.inside / "ballast"

    @staticmethod
    def _said(stream: Any) -> bytes:
        return bytes(stream.readline()) if stream else b""


class CrampedPostgres(sandbox.Postgres):
    """A PostgreSQL of which one part lies on a small disk.

    Args:
        folder: for the rest of it.
        disk: which it enters.
        part: its ``wal``, or the ``data`` of the databases that are moved there.
    """

    def __init__(self, folder: Path, disk: Disk, part: Literal["wal", "data"]) -> None:
        super().__init__(folder, settings=_SMALL_WAL)
        self._disk, self._part = disk, part

    def move(self, database: str) -> None:
        """Move a database to the disk, if that is for data; nobody may be connected to it."""
        import psycopg  # noqa: PLC0415 - as in the sandbox

        if self._part == "data":
            space = self._disk.inside / "space"
            space.mkdir()
            os.chown(space, self._account.uid, self._account.gid)
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{self._disk.point / 'space'}'")
                connection.execute(f"ALTER DATABASE {database} SET TABLESPACE small")

    def _command(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        special: Sequence[str] = ()
        if program == "initdb":
            special = ["--wal-segsize=1"]
            special += [f"--waldir={self._disk.point / 'wal'}"] if self._part == "wal" else []
        return self._disk.entered(super()._command(program, *arguments, *special), self._account)
