"""Where a job goes: its own exchange and routing key, else the first route that matches, else the default.

Pure. The digest of it all, with the broker's address, tells two relays apart that must not follow each other.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.config import Route
    from relay.row import Row


class Way(NamedTuple):
    """An exchange, a routing key, and the most bytes of payload this way takes (None: no bound of ours)."""

    exchange: str
    routing_key: str
    max_bytes: int | None


def differences(digest: str, other: str) -> list[str]:
    """Return in what two digests differ: ``broker``, ``exchange``, ``routes``."""
    names = ("broker", "exchange", "routes")
    pairs = zip(names, digest.split("."), other.split("."), strict=False)
    return [name for name, one, another in pairs if one != another]


class Routes:
    """The relay's route table.

    Args:
        exchange: the exchange of every kind that no route names.
        routes: tried in order; ``match`` is a shell-style pattern on the kind.
    """

    def __init__(self, exchange: str, routes: Sequence[Route]) -> None:
        self._exchange, self._routes = exchange, tuple(routes)
        self._of_kind = lru_cache(maxsize=4096)(self._look_up)

    def way(self, row: Row) -> Way:
        """Return where ``row`` goes."""
        way = self._of_kind(row.kind)
        if row.exchange is None:
            return way if row.routing_key is None else way._replace(routing_key=row.routing_key)
        key = row.kind if row.routing_key is None else row.routing_key
        return Way(row.exchange, key, way.max_bytes)

    def exchanges(self) -> list[str]:
        """Return every exchange that the table names; the empty one is the broker's own."""
        named = [self._exchange] + [route.exchange for route in self._routes if route.exchange]
        return list(dict.fromkeys(name for name in named if name))

    def digest(self, broker: str) -> str:
        """Return digests of ``broker`` (what ``urls.identity`` returns), of the exchange and of the table."""
        parts = (broker, self._exchange, repr(self._routes))
        return ".".join(hashlib.sha256(part.encode()).hexdigest()[:16] for part in parts)

    def _look_up(self, kind: str) -> Way:
        for route in self._routes:
            if fnmatchcase(kind, route.match):
                exchange = self._exchange if route.exchange is None else route.exchange
                return Way(exchange, route.routing_key or kind, route.max_bytes)
        return Way(self._exchange, kind, None)
