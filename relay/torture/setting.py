"""Sets the scene: servers of our own or named ones, the scratch database and queues, the network between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outbox.errors import WrongEnvironment
from relay import sandbox, transports, urls
from relay.theatre.cast import Cast
from relay.torture import links, scratch
from relay.torture.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from relay.sandbox.binaries import Source

REDELIVER_AFTER: Final = "5"
"""Seconds: nobody waits here for the usual ten minutes for what a broker lost."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be chosen; the command's help tells it. ``faults`` empty: all that are possible."""

    minutes: float = 1.0
    seed: int | None = None
    faults: tuple[str, ...] = ()
    source: Source = "auto"
    broker: str = "auto"
    database_url: str | None = None
    broker_url: str | None = None
    rate: float = 100.0
    keep: bool = False
    picture: Path | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Setting:
    """Where it happens.

    Args:
        stage: what faults may touch; nobody is on it yet.
        scratch: the name of database, exchange and queue.
        servers: for people.
        forgetful: whether the broker may lose what it took.
        folder: for journals and logs.
    """

    stage: Stage
    scratch: str
    servers: list[str]
    forgetful: bool
    folder: Path

    def env(self, kind: str) -> dict[str, str]:
        """Return what a kind of process is told."""
        network = self.stage.links
        told = {
            "OUTBOX_DATABASE_URL": network.url(f"{kind}-database"),
            "OUTBOX_EXCHANGE": self.scratch,
            "OUTBOX_LOG": "json",
            "OUTBOX_REDELIVER_AFTER": REDELIVER_AFTER,
            "TORTURE_FOLDER": str(self.folder),
            "TORTURE_NAME": self.scratch,
        }
        broker = f"{kind}-broker"
        return told | ({"OUTBOX_BROKER_URL": network.url(broker)} if broker in links.NAMES else {})


def prepare(options: Options, folder: Path, tell: Callable[[str], None], stack: ExitStack) -> Setting:
    """Start or find the servers, and make on them what is needed; ``stack`` takes all of it back.

    Raises:
        ConfigError: an address cannot be one.
        WrongEnvironment: the role may not create databases.
        Unreachable, Unavailable, StartFailed: a server does not answer, is not here, does not start.
    """
    postgres = broker = None
    if options.database_url is None:
        tell("starting a private PostgreSQL")
        postgres = stack.enter_context(sandbox.postgres(folder / "postgres", source=options.source))
    if options.broker_url is None:
        tell("starting a private broker")
        broker = stack.enter_context(_broker(options, folder / "broker"))
    server = urls.database(options.database_url or postgres.url if postgres else str(options.database_url))
    broker_url = urls.broker(broker.url if broker else str(options.broker_url))
    grade = transports.admit(broker_url, allow_lossy=True)
    if grade.letter == "F":
        raise WrongEnvironment(f"torture needs a broker that may be trusted, and {broker_url} {grade.reason}")
    name = scratch.name()
    database_url = stack.enter_context(scratch.database(server, name))
    stack.enter_context(scratch.queues(broker_url, name))
    network = links.Links(stack, database_url, broker_url)
    cast = Cast(folder, {})
    stack.callback(cast.close)
    return Setting(
        stage=Stage(cast, network, database_url, broker_url, postgres, broker),
        scratch=name,
        servers=[
            _near(postgres.source) if postgres else urls.masked(server),
            _near(broker.source) if broker else urls.masked(broker_url),
            f"which has grade {grade.letter}: {grade.reason}",
        ],
        forgetful=grade.letter != "A",
        folder=folder,
    )


def _broker(options: Options, folder: Path) -> sandbox.Server:
    if options.broker == "rabbitmq":
        return sandbox.rabbitmq(folder)
    if options.broker == "valkey" or options.source == "wheel":
        return sandbox.valkey(folder, source=options.source)
    return sandbox.broker(folder)


def _near(source: str) -> str:
    """Return where a server comes from, relative to here if it is below."""
    return source.replace(f"{Path.cwd()}/", "")
