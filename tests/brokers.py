"""A fresh virtual host for each test of one RabbitMQ."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from servers import Broker

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
