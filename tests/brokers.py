"""A fresh virtual host for each test of one RabbitMQ, and when what is in it outlives a crash."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from helpers import eventually

if TYPE_CHECKING:
    from servers import Broker

    from relay.sandbox import RabbitMQ

_MAKE = """[begin
  ok = rabbit_vhost:add(V, <<"tests">>),
  ok = rabbit_auth_backend_internal:set_permissions(<<"{user}">>, V, <<".*">>, <<".*">>, <<".*">>,
  <<"tests">>)
end || V <- [{names}]]."""
_DROP = """[rabbit_vhost:delete(V, <<"tests">>) || V <- [{names}]]."""


class VirtualHosts:
    """Hands out virtual hosts that nobody has used.

    rabbitmqctl starts an Erlang of its own, which takes longer than most tests; so it makes many at once.

    Args:
        broker: on which.
        at_once: how many are made together.
    """

    def __init__(self, broker: Broker, at_once: int = 20) -> None:
        self._at_once = at_once
        self._broker = broker
        self._made: list[str] = []
        self._unused: list[str] = []

    def next_url(self) -> str:
        """``amqp://…`` of the next one."""
        if not self._unused:
            self._make()
        return urlsplit(self._broker.url)._replace(path=f"/{self._unused.pop()}").geturl()

    def close(self) -> None:
        """Delete all of them, with what is in them."""
        if self._made:
            self._broker.ctl("eval", _DROP.format(names=_erlang(self._made)))

    def _make(self) -> None:
        names = [f"test-{secrets.token_hex(4)}" for _ in range(self._at_once)]
        user = urlsplit(self._broker.url).username or "guest"
        self._broker.ctl("eval", _MAKE.format(user=user, names=_erlang(names)))
        self._made += names
        self._unused = names


def _erlang(names: list[str]) -> str:
    return ", ".join(f'<<"{name}">>' for name in names)


def crash_proof(server: RabbitMQ, url: str, queue: str) -> None:
    """Wait until a quorum queue that was just declared outlives a SIGKILL of its RabbitMQ: about a second.

    RabbitMQ 3.10 saves the list of these queues (names.dets) up to a second late, and confirms declaration
    and messages before. Killed in between, it comes back with "pre init for 0 registered servers", begins the
    queue anew beside its orphaned log, and has it wait for a leader for ever (term 0, no election, also after
    another restart): declare and bind are answered, no consume and no publish is, and what was confirmed is
    lost. Issue 15725 of rabbitmq-server tells the same of newer releases. Deleting the queue mends it.
    """
    name = f"{urlsplit(url).path[1:]}_{queue}".encode()
    (directory,) = server.folder.glob("data/*/quorum/*/names.dets")
    eventually(lambda: name in directory.read_bytes())
