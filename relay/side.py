"""A channel beside the shared one, for what the broker may refuse.

py-amqp raises the end of a channel from whatever call reads it first, without saying which channel it was,
and opens it again, out of confirm mode. Here the end is told to those who asked, and the shared channel, with
all that is in flight on it, has nothing to do with it. A channel is closed on both sides: else the next one
of its number ends the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from amqp import spec
from amqp.exceptions import RecoverableConnectionError
from kombu.transport.pyamqp import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Refusal(NamedTuple):
    """Why the broker closed a channel: its code, and its words."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class SideChannel(Channel):
    """An open channel whose refusal is raised at nobody.

    Args:
        connection: py-amqp's.
        on_refused: called when the broker closes the channel.
    """

    def __init__(self, connection: Any, on_refused: Callable[[Refusal], None] | None = None) -> None:
        self.refusal: Refusal | None = None
        self._tell, self._left = on_refused, False
        super().__init__(connection)
        self.open()

    def leave(self) -> None:
        """Close it, without waiting for the broker's answer."""
        if self.connection is not None and not self._left:
            self._left = self.is_closing = True
            self.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))

    def _on_close(self, reply_code: int, reply_text: str, class_id: int, method_id: int) -> None:
        del class_id, method_id
        self.refusal = Refusal(reply_code, reply_text)
        self.send_method(spec.Channel.CloseOk)
        self.collect()
        if self._tell is not None:
            self._tell(self.refusal)


def asked(connection: Any, question: Callable[[Any], T]) -> T | Refusal:
    """Ask the broker something that it may refuse; return its answer or its refusal.

    Raises:
        OSError, AMQPError: the connection is gone.
    """
    side = SideChannel(connection)
    try:
        return question(side)
    except RecoverableConnectionError:
        if side.refusal is None:
            raise
        return side.refusal
    finally:
        side.leave()
