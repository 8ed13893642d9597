"""A broker that delivers at least once, and means it: each message several times, in no order."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any, Self

import amqp
from relays import Line

if TYPE_CHECKING:
    from types import TracebackType

RAW = "raw"
"""The exchange that relays have to publish to (``exchange=RAW``); consumers are bound to the usual one."""
_TAP = "tap"
_QUIET = 0.02


class Shovel:
    """Takes what relays publish, and passes each message on ``copies`` times, in no order.

    Args:
        url: ``amqp://…``.
        copies: of each message.
    """

    def __init__(self, url: str, copies: int = 3) -> None:
        self._copies = copies
        self._line = Line(url)
        self._line.bind(_TAP, exchange=RAW)
        self._line.channel.exchange_declare("outbox", "topic", durable=True, auto_delete=False)
        self._line.channel.confirm_select()
        self._pool: list[Any] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shovel", daemon=True)
        self.passed = 0
        """How many messages consumers got in all."""
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(30)
        self._line.close()
        if self.failure is not None and kind is None:
            raise self.failure

    @property
    def idle(self) -> bool:
        """Whether it holds nothing back."""
        return not self._pool

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except BaseException as failure:  # noqa: BLE001 - raised at the end of the context
            self.failure = failure

    def _turn(self) -> None:
        """Pass on a random half of what is held, so that copies of one message lie far apart."""
        came = self._line.take(_TAP)
        self._pool += came * self._copies
        random.shuffle(self._pool)
        several = len(self._pool) > 2 * self._copies
        for message in self._pool[: len(self._pool) // 2 if several else None]:
            self._pass_on(message)
        del self._pool[: len(self._pool) // 2 if several else None]
        if not self._pool:
            self._stopping.wait(_QUIET)

    def _pass_on(self, message: Any) -> None:
        copy = amqp.Message(message.body, **message.properties)
        key = message.delivery_info["routing_key"]
        self._line.channel.basic_publish_confirm(copy, exchange="outbox", routing_key=key, mandatory=True)
        self.passed += 1
