"""What a broker's address asks of its connection, and what its refusals mean in words for an operator.

Speaks to no broker: ``subscription`` does.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from outbox.runner.faults import one_line

CONNECT_TIMEOUT: Final = 3.0
IO_TIMEOUT: Final = 5.0
"""Seconds for one read or write. Without it every call of py-amqp waits for a frozen broker for ever."""

_AMQP_OPTIONS: Final = {"read_timeout": IO_TIMEOUT, "write_timeout": IO_TIMEOUT}
_REDIS_OPTIONS: Final = {
    "socket_timeout": IO_TIMEOUT,
    "socket_connect_timeout": CONNECT_TIMEOUT,
    "socket_keepalive": True,
}

# Greedy up to the last "@": a password may hold one where somebody forgot to quote it.
_LOGIN: Final = re.compile(r"(?<=://)([^:@/?#]*):.*@", re.DOTALL)

_DENIED: Final = 403
_DIFFERENT: Final = 406
_REFUSED_LOGIN: Final = (403, 530)
_NO_QUEUE: Final = 404

REMEDIES: Final = {
    403: "give the user the right to configure, write and read, or declare it yourself and say --no-declare",
    404: "declare the queue, or leave --no-declare out",
    406: "it exists and is not {queue_type}: give its type with --queue-type, or say --no-declare",
}

LEADERLESS: Final = "; has queue {queue} a leader? (rabbitmq-queues quorum_status {queue})"
"""What to look at where a broker is well and a question about a queue gets no answer."""


Refusal = Callable[[BaseException], str | None]
"""Says in words what a refusal means; None: the error is none."""


def of_exchange(exchange: str) -> Refusal:
    """Return what understands the answer to the declaration of an exchange."""

    def told(error: BaseException) -> str | None:
        code = getattr(error, "reply_code", None)
        if code == _DIFFERENT:
            remedy = "remove it, or name another with OUTBOX_EXCHANGE"
            return f"the exchange {exchange!r} exists as another one: {words(error)}; {remedy}"
        return f"the exchange {exchange!r}: {words(error)}; {REMEDIES[code]}" if code == _DENIED else None

    return told


def of_queue(queue: str, queue_type: str) -> Refusal:
    """Return what understands the answers about a queue."""

    def told(error: BaseException) -> str | None:
        remedy = REMEDIES.get(getattr(error, "reply_code", 0))
        return f"queue {queue}: {words(error)}; {remedy.format(queue_type=queue_type)}" if remedy else None

    return told


def options(url: str) -> dict[str, Any]:
    """Return the transport options of an address: kombu and its clients would wait for ever without."""
    if url.startswith(("amqp", "pyamqp")):
        return dict(_AMQP_OPTIONS)
    return dict(_REDIS_OPTIONS) if url.startswith(("redis", "sentinel")) else {}


def tls(url: str) -> Any:
    """Return kombu's ``ssl`` for an address: its own defaults look at no host name, or at no certificate."""
    if url.startswith("amqps"):
        return {"server_hostname": None, "cert_reqs": ssl.CERT_REQUIRED}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.startswith("rediss") else False


def masked(url: str) -> str:
    """Return an address without its password and options, for logs."""
    return _LOGIN.sub(r"\1:***@", url).partition("?")[0]


def refuses_login(error: BaseException) -> bool:
    """Return whether the broker does not know us, or not our virtual host."""
    known = getattr(error, "reply_code", None) in _REFUSED_LOGIN
    return known or type(error).__name__ == "AuthenticationError"


def left_bound(kind: str, error: BaseException | None) -> str | None:
    """Return what is left to do where we could not unbind a queue, if there is a queue."""
    if getattr(error, "reply_code", None) == _NO_QUEUE:
        return None
    return f"remove its binding to {kind}" + (f", we may not: {words(error)}" if error else "")


def words(error: BaseException) -> str:
    """Return what the broker said, or what its library makes of it."""
    text = getattr(error, "reply_text", None)
    return " ".join(str(text).split()) if text else one_line(error)
