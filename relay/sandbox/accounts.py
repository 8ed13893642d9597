"""Under which account a server runs, and whether that account can reach a folder.

PostgreSQL refuses to run as root. As root we lend it the account ``nobody``, which every system has: no
account is made, and no folder of anybody else is opened for it. What it cannot reach is copied to where
it can.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Account:
    """An account for a server's processes.

    Args:
        uid: user id.
        gid: group id.
        switch: whether processes must be switched to it, because we are root.
    """

    uid: int
    gid: int
    switch: bool

    def popen(self) -> dict[str, Any]:
        """Keyword arguments with which ``Popen`` runs a process under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, folder: Path) -> None:
        """Make a folder of ours, and nothing above it, this account's alone."""
        folder.chmod(0o700)
        if self.switch:
            os.chown(folder, self.uid, self.gid)

    def may(self, what: str, path: Path) -> bool:
        """Whether the account may, as the kernel sees it (parents, ACLs, mount options).

        Args:
            what: ``"x"`` enter or run, ``"w"`` write.
            path: the file or folder.
        """
        if not self.switch:
            return True
        # The child changes to "/" first: our working directory may itself be out of its reach.
        probe = ["/bin/sh", "-c", f'test -{what} "$1"', "sh", str(path)]
        return subprocess.run(probe, cwd="/", check=False, **self.popen()).returncode == 0


def ours() -> Account:
    """The account that we run under."""
    return Account(os.geteuid(), os.getegid(), switch=False)


def unprivileged() -> Account:
    """The account that we run under, or ``nobody`` when that is root."""
    if os.geteuid() != 0:
        return ours()
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534, switch=True)
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def data_folder(folder: Path, account: Account) -> Path:
    """A folder for a server's data that its account alone may use.

    Args:
        folder: where it should be, made if it is missing.
        account: whose it becomes.

    Returns:
        The folder; or a temporary one, which the caller removes, when the account cannot reach it (``/root``,
        pytest's own temporary folders).
    """
    folder.mkdir(parents=True, exist_ok=True)
    account.own(folder)
    if account.may("w", folder):
        return folder
    with suppress(OSError):  # it holds what another account left there
        folder.rmdir()
    elsewhere = Path(tempfile.mkdtemp(prefix="outbox-sandbox-"))
    account.own(elsewhere)
    return elsewhere


def reachable_copy(root: Path, parts: Iterable[str], copy: Path) -> Path:
    """Copy installed programs to where every account may run them.

    Args:
        root: above them.
        parts: names of folders in it, which are copied if they are there.
        copy: the folder to make, below one that the account can reach. One that is there is used as it is.

    Returns:
        The copy.
    """
    if copy.exists():
        return copy
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for part in parts:
        if (root / part).exists():
            shutil.copytree(root / part, partial / part, symlinks=True)
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
    return partial.rename(copy)
