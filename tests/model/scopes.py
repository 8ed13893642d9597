"""The worlds that are explored whole: three jobs, two relays, two faults; in each, what belongs together."""

from __future__ import annotations

from typing import Final

from model.rules import Scope


def _set(*words: str) -> frozenset[str]:
    return frozenset(words)


TAKEOVER: Final = Scope("takeover", kinds=_set("kill", "freeze", "stop"))
RESTART: Final = Scope("restart", kinds=_set("reset"), lazy=True)
LINE: Final = Scope("line", kinds=_set("cut", "kill"), spare=1, odds=_set("nack"))
RETRY: Final = Scope("retry", kinds=_set("kill"), spare=1, odds=_set("fail", "cancel"))
CONSUMERS: Final = Scope("consumers", kinds=_set("die"), slots=2, spare=1, odds=_set("fail"))
READING: Final = Scope(
    "reading", kinds=_set("kill"), events=True, slots=0, window=1, writers="slow", reading=True
)
ORDER: Final = Scope("order", keys=("k", "k", ""), kinds=_set("kill"), spare=1, odds=_set("fail"))
PARKING: Final = Scope("parking", keys=("k", "k", "k"), kinds=_set("kill"), spare=1, odds=_set("unbound"))
FORGETFUL: Final = Scope(
    "forgetful broker",
    kinds=_set("forget", "die"),
    spare=1,
    odds=_set("hasty"),
    prefetch=True,
    window=1,
    redeliver=True,
)
LEASED: Final = Scope("leases", kinds=_set("die", "expire"), leased=True, spare=1, odds=_set("fail"))
EVENTS: Final = Scope("events", kinds=_set("die", "kill"), events=True, slots=2)

SCOPES: Final = (
    TAKEOVER,
    RESTART,
    LINE,
    RETRY,
    CONSUMERS,
    READING,
    ORDER,
    PARKING,
    FORGETFUL,
    LEASED,
    EVENTS,
)


def small(scope: Scope, jobs: int = 2, faults: int = 1) -> Scope:
    """Return a scope with fewer jobs and faults, for those who wait for it."""
    return scope._replace(keys=scope.keys[:jobs], faults=faults)
