"""The network between the processes and their servers: a proxy for each pair, which faults cut and stall."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from relay.theatre.proxy import Proxy
from relay.transports import listed

if TYPE_CHECKING:
    from contextlib import ExitStack

NAMES: Final = (
    "relay-database",
    "relay-broker",
    "consumer-database",
    "consumer-broker",
    "writer-database",
)
_PORTS: Final = {"postgres": 5432, "postgresql": 5432, "amqp": 5672, "pyamqp": 5672, "redis": 6379}
_VERIFIED: Final = {"verify-ca", "verify-full"}


def passable(url: str) -> bool:
    """Whether a proxy may stand between: one server, by TCP, and no certificate that names it."""
    with suppress(ValueError):
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        plain = parts.scheme.partition("+")[0] in _PORTS and options.get("sslmode") not in _VERIFIED
        one = bool(parts.hostname) and len(listed(url)) == 1 and (parts.port or 1) > 0
        return plain and one and not {"host", "hostaddr", "port"} & options.keys()
    return False  # several servers: their ports are no number


class Links:
    """The proxies, by name.

    Args:
        stack: ends them.
        database_url: of the database.
        broker_url: of the broker.
    """

    def __init__(self, stack: ExitStack, database_url: str, broker_url: str) -> None:
        self._urls = {name: database_url if name.endswith("-database") else broker_url for name in NAMES}
        self.proxies = {
            name: stack.enter_context(_proxy(url)) for name, url in self._urls.items() if passable(url)
        }

    def url(self, name: str) -> str:
        """Return the address that a process is told: the proxy's, where there may be one."""
        proxy = self.proxies.get(name)
        return proxy.url(self._urls[name]) if proxy else self._urls[name]


def _proxy(url: str) -> Proxy:
    parts = urlsplit(url)
    return Proxy(parts.hostname or "", parts.port or _PORTS[parts.scheme.partition("+")[0]])
