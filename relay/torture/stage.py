"""The stage: the roles, who plays them now, and the servers; what faults may touch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg

from outbox.errors import OutboxError

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from relay.sandbox import Postgres, Server
    from relay.theatre.cast import Actor, Cast
    from relay.torture.links import Links

RESTART_AFTER: Final = 1.0
"""Seconds after its end that a process is started again, as Kubernetes would."""

RELAY, CONSUMER, WRITER, WIRETAP = "relay", "consumer", "writer", "wiretap"


class NotNow(Exception):
    """A fault that cannot be inflicted at the moment; ``str()`` says why."""


@dataclass
class Role:
    """A process that is started again whenever it ends."""

    kind: str
    actor: Actor
    env: dict[str, str]
    ended_at: float | None = None


@dataclass
class Stage:
    """Everything that is there.

    Args:
        cast: starts processes.
        links: the network.
        database_url: of the scratch database, directly.
        broker_url: of the broker, directly.
        postgres: None: it is not ours.
        broker: the same.
    """

    cast: Cast
    links: Links
    database_url: str
    broker_url: str
    postgres: Postgres | None
    broker: Server | None
    roles: list[Role] = field(default_factory=list)
    restarts: int = 0
    dropouts: dict[str, int] = field(default_factory=dict)
    """Processes that ended with an error of their own, with their last words, and how often."""
    _leads: Actor | None = None
    _term: int = 0

    def enter(self, kind: str, name: str, *argv: str, env: dict[str, str]) -> Role:
        """Start a process."""
        role = Role(kind, self.cast.start(name, *argv, env=env), env)
        self.roles.append(role)
        return role

    def tend(self) -> None:
        """Start again who has ended; learn who leads."""
        for role in self.roles:
            for event in role.actor.news() if role.kind == RELAY else ():
                if event["event"] == "leadership_gained" and event["term"] > self._term:
                    self._leads, self._term = role.actor, event["term"]
            if not role.actor.running:
                self._start_again(role)

    def of(self, kind: str) -> list[Actor]:
        """Return those of a kind who live."""
        return [role.actor for role in self.roles if role.kind == kind and role.actor.running]

    def one_of(self, kind: str, dice: random.Random) -> Actor:
        """Return one of them. Raises ``NotNow``."""
        living = self.of(kind)
        if not living:
            raise NotNow(f"no {kind} is running")
        return dice.choice(living)

    def leader(self) -> Actor:
        """Return the relay that leads. Raises ``NotNow``."""
        if self._leads is None or not self._leads.running:
            raise NotNow("no relay leads")
        return self._leads

    def connect(self) -> psycopg.Connection:
        """Open a connection to the scratch database, in autocommit, past all proxies."""
        return psycopg.connect(self.database_url, autocommit=True, connect_timeout=5)

    def dismiss(self, kind: str, within: float) -> None:
        """Ask all of a kind to end, and see that they do."""
        leaving = [role for role in self.roles if role.kind == kind]
        self.roles = [role for role in self.roles if role.kind != kind]
        for role in leaving:
            role.actor.process.terminate()
        deadline = time.monotonic() + within
        while any(role.actor.running for role in leaving) and time.monotonic() < deadline:
            time.sleep(0.05)
        for role in leaving:
            self.cast.dismiss(role.actor)

    def _start_again(self, role: Role) -> None:
        now = time.monotonic()
        if role.ended_at is None:
            role.ended_at = now
            self._note_end(role.actor)
        elif now - role.ended_at > RESTART_AFTER:
            self.cast.dismiss(role.actor)
            role.actor = self.cast.start(role.actor.name, *role.actor.argv[1:], env=role.env)
            role.ended_at = None
            self.restarts += 1

    def _note_end(self, actor: Actor) -> None:
        code = actor.process.returncode
        if code > 0:
            words = f"{actor.name.partition('-')[0]}, exit {code}: {actor.last_words()}"
            self.dropouts[words] = self.dropouts.get(words, 0) + 1


def await_event(actor: Actor, wanted: Sequence[str], within: float) -> None:
    """Wait until a process has logged one of these events.

    Raises:
        OutboxError: it did not, or ended; with its last words.
    """
    deadline = time.monotonic() + within
    while not any(event["event"] in wanted for event in actor.news()):
        if not actor.running or time.monotonic() > deadline:
            raise OutboxError(f"{actor.name} did not start: {actor.last_words()}")
        time.sleep(0.1)
