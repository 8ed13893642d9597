"""Directs the demo: starts servers and cast, kills the leader, restarts the broker, asks for the verdict."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from outbox.errors import OutboxError
from relay import migrations, sandbox, transports, urls
from relay.demo.screen import Screen
from relay.demo.shop import Base, Receipt
from relay.demo.verdict import Verdict, judge
from relay.theatre import wiretap
from relay.theatre.cast import Actor, Cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from relay.sandbox.binaries import Source

    Show = Callable[[Verdict], None]

ORDERS_A_SECOND: Final = 100
KILL_LEADER: Final = 0.3
RESTART_BROKER: Final = 0.6
SETTINGS: Final = {
    "OUTBOX_LOG": "json",
    "OUTBOX_REDELIVER_AFTER": "5",  # nobody watches for the usual ten minutes what a broker of grade B lost
}
WIRETAP: Final = ("outbox", "wiretap")
"""The exchange that it listens to, and its queue."""

PATIENCE: Final = 25.0
LOOK_EVERY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What the spectator may choose. ``seconds``: how long the shop is open."""

    seconds: float = 15.0
    broker: str = "auto"
    source: Source = "auto"
    keep: bool = False
    picture: Path | None = None


def run(options: Options) -> int:
    """Play; return the exit code: 0 if every promise was kept, else 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="outbox-demo-"))
    screen = Screen()
    with ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        play = Play(options, folder, screen, stack)
        verdict = play.perform()
        screen.close(verdict, play.servers)
        if options.picture is not None:
            screen.console.save_svg(str(options.picture), title="outbox demo")
    if options.keep:
        screen.console.print(f"logs and journals: {folder}", highlight=False)
    return 0 if verdict.kept else 1


class Play:
    """One performance.

    Args:
        options: the spectator's choices.
        folder: for data, logs and journals.
        screen: shows it.
        stack: ends everything, in reverse.
    """

    def __init__(self, options: Options, folder: Path, screen: Screen, stack: ExitStack) -> None:
        self._options, self._folder, self._screen = options, folder, screen
        screen.tell("starting a private PostgreSQL and a private broker")
        self._postgres = stack.enter_context(sandbox.postgres(folder / "postgres", source=options.source))
        self._broker = stack.enter_context(self._chosen_broker())
        grade = transports.admit(self._broker.url, allow_lossy=False)
        self.servers = [
            near(self._postgres.source),
            f"{near(self._broker.source)}: grade {grade.letter}, {grade.reason}",
        ]
        self._engine = self._prepare()
        stack.callback(self._engine.dispose)
        env = {"OUTBOX_DATABASE_URL": self._postgres.url, "OUTBOX_BROKER_URL": self._broker.url}
        self._cast = Cast(folder, env | {"DEMO_FOLDER": str(folder)} | SETTINGS)
        stack.callback(self._cast.close)

    def perform(self) -> Verdict:
        """Play it from the first order to the last receipt."""
        self._raise_curtain()
        with self._screen.live() as show:
            began = time.monotonic()
            self._play_until(began + self._options.seconds * KILL_LEADER, show)
            self._kill_leader()
            self._play_until(began + self._options.seconds * RESTART_BROKER, show)
            self._screen.tell("broker restarted under the load")
            self._broker.restart("fast")
            self._play_until(began + self._options.seconds, show)
            self._wait_for_the_rest(show)
        return self._count()

    def _chosen_broker(self) -> sandbox.Server:
        folder = self._folder / "broker"
        if self._options.broker == "rabbitmq":
            return sandbox.rabbitmq(folder)
        if self._options.broker == "valkey" or self._options.source == "wheel":
            return sandbox.valkey(folder, source=self._options.source, settings={"appendonly": "yes"})
        return sandbox.broker(folder)

    def _prepare(self) -> Engine:
        migrations.upgrade(self._postgres.url)
        engine = create_engine(urls.sqlalchemy(self._postgres.url))
        Base.metadata.create_all(engine)
        wiretap.declare(self._broker.url, *WIRETAP)
        return engine

    def _raise_curtain(self) -> None:
        """Start those who listen first: a message that the wiretap alone gets is routable, and not done."""
        self._cast.start("wiretap", "relay.theatre.wiretap", str(self._folder / "delivered"), *WIRETAP)
        arguments = ("relay", "consume", "relay.demo.receipts:handlers")
        consumers = [self._cast.start(name, *arguments) for name in ("consumer-1", "consumer-2")]
        self._relays = [self._cast.start(name, "relay", "relay") for name in ("relay-1", "relay-2")]
        self._leader: Actor | None = None
        for actor in consumers:
            self._await(actor, "consumer_started")
        seconds, rate = str(self._options.seconds), str(ORDERS_A_SECOND)
        self._shop = self._cast.start("shop", "relay.demo.shop", str(self._folder), seconds, rate)
        self._screen.tell("the shop is open; two relays, two consumers and a wiretap are running")

    def _await(self, actor: Actor, event: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while event not in {found["event"] for found in actor.news()}:
            if not actor.running or time.monotonic() > deadline:
                raise OutboxError(f"demo: {actor.name} did not start: {actor.last_words()}")
            time.sleep(LOOK_EVERY)

    def _play_until(self, deadline: float, show: Show) -> None:
        while time.monotonic() < deadline:
            self._look(show)
            time.sleep(LOOK_EVERY)

    def _look(self, show: Show) -> Verdict:
        self._follow_leader()
        for actor in self._cast.fallen():
            raise OutboxError(f"demo: {actor.name} ended: {actor.last_words()}")
        verdict = self._count()
        show(verdict)
        return verdict

    def _follow_leader(self) -> None:
        for relay in self._relays:
            for event in relay.news():
                if event["event"] == "leadership_gained":
                    self._leader = relay
                    self._screen.tell(f"{relay.name} leads, term {event['term']}")

    def _kill_leader(self) -> None:
        leader = self._leader
        if leader is None:
            raise OutboxError(f"demo: no relay leads: {self._relays[0].last_words()}")
        leader.process.kill()
        self._screen.tell(f"{leader.name}, the leader, killed with SIGKILL")

    def _wait_for_the_rest(self, show: Show) -> None:
        self._screen.tell("the shop is closed; waiting for the last receipts")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            verdict = self._look(show)
            if not self._shop.running and verdict.kept and verdict.effects == verdict.committed:
                return
            time.sleep(LOOK_EVERY)

    def _count(self) -> Verdict:
        with Session(self._engine) as session:
            return judge(self._folder, session.scalars(select(Receipt.order_id)).all())


def near(source: str) -> str:
    """Return where a server comes from, relative to here if it is below."""
    return source.replace(f"{Path.cwd()}/", "")
