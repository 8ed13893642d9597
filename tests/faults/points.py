"""The moments at which a relay and a consumer are stopped: between any two steps that something depends on.

Each is a place in the program where a signal to the process itself is put in, from outside: the program
knows nothing of it. Run by ``crashing.py`` in a process of its own, which is never the test's.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Condition = Callable[[tuple[Any, ...], Any], Any]

WAITS_FOR_AN_ANSWER = 1
"""What psycopg's generators yield when all is sent and nothing has come back."""


class Bomb:
    """Sends this process a signal, once.

    Args:
        number: of the signal; the process goes on afterwards if that lets it.
    """

    def __init__(self, number: int) -> None:
        self._number, self._armed = number, True

    def goes_off(self) -> None:
        """Send it, unless it was sent before."""
        if self._armed:
            self._armed = False
            os.kill(os.getpid(), self._number)


def always(_arguments: tuple[Any, ...], _result: Any) -> bool:
    return True


def got_something(_arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result)


def before(owner: Any, name: str, bomb: Bomb, when: Condition = always) -> None:
    """Let the bomb go off before a method runs, where its arguments are right."""
    real = getattr(owner, name)

    @wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        if when(given, None):
            bomb.goes_off()
        return real(*given, **named)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, bomb: Bomb, when: Condition = always) -> None:
    """Let the bomb go off when a method has run, where its arguments and its result are right."""
    real = getattr(owner, name)

    @wraps(real)
    def wrapped(*given: Any, **named: Any) -> Any:
        result = real(*given, **named)
        if when(given, result):
            bomb.goes_off()
        return result

    setattr(owner, name, wrapped)


def sent_without_an_answer(statement: str, bomb: Bomb) -> None:
    """Let the bomb go off when a statement is with the server and its answer is not with us."""
    from relay.backend import Backend, Session  # noqa: PLC0415 - only the process that is to die loads it

    rows, wait = Backend.rows, Session.wait
    asked: list[str] = []

    def watched(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        ready = None
        while True:
            try:
                wanted = steps.send(ready)
            except StopIteration as end:
                return end.value
            if wanted == WAITS_FOR_AN_ANSWER:
                bomb.goes_off()
            ready = yield wanted

    def noted_rows(self: Any, sql: str, *given: Any) -> Any:
        asked[:] = [sql]
        return rows(self, sql, *given)

    def noted_wait(self: Any, steps: Any, *given: Any, **named: Any) -> Any:
        return wait(self, watched(steps) if asked == [statement] else steps, *given, **named)

    Backend.rows, Session.wait = noted_rows, noted_wait  # type: ignore[method-assign]


def relay(point: str, bomb: Bomb) -> None:
    """Put the bomb into a relay."""
    from relay.broker import Broker  # noqa: PLC0415
    from relay.leader import Election  # noqa: PLC0415
    from relay.ledger import MARK, Ledger  # noqa: PLC0415
    from relay.publisher import CHUNK, AmqpPublisher  # noqa: PLC0415
    from relay.reader import Reader  # noqa: PLC0415
    from relay.shift import Shift  # noqa: PLC0415
    from relay.term import Term  # noqa: PLC0415
    from relay.window import Window  # noqa: PLC0415

    def some_fly(given: tuple[Any, ...], _: Any) -> bool:
        return given[0].flying > 0

    def none_flies(given: tuple[Any, ...], _: Any) -> bool:
        return given[0]._window.flying == 0

    def nothing_left(given: tuple[Any, ...], _: Any) -> bool:
        return len(given[0]._window) == 0

    def several_chunks(given: tuple[Any, ...], _: Any = None) -> bool:
        return len(given[1]) > CHUNK

    def a_part_of_them(bomb: Bomb) -> None:
        """A term's first read is one chunk, which is all that is sent then: wait for a longer one."""
        sending: list[bool] = []
        before(AmqpPublisher, "send", bomb, lambda given, _: sending.append(several_chunks(given)))
        after(AmqpPublisher, "_write", bomb, lambda _given, _: sending[-1])

    places: dict[str, Callable[[], None]] = {
        "P0": lambda: before(Election, "_acquire", bomb, lambda given, _: given[0].backend is not None),
        "P1": lambda: after(Election, "_acquire", bomb, got_something),
        "P2": lambda: after(Election, "campaign", bomb, got_something),
        "P3": lambda: after(Reader, "fetch", bomb, got_something),
        "P4": lambda: after(Term, "fence", bomb),
        "P5": lambda: a_part_of_them(bomb),
        "P6": lambda: after(Broker, "send", bomb, several_chunks),
        "P7": lambda: after(Window, "acked", bomb, some_fly),
        "P8": lambda: before(Shift, "_mark", bomb, none_flies),
        "P9": lambda: sent_without_an_answer(MARK, bomb),
        "P10": lambda: after(Shift, "_mark", bomb, nothing_left),
    }
    assert hasattr(Ledger, "mark"), "P9 is about its statement"
    places[point]()


def consumer(point: str, bomb: Bomb, app: Any) -> None:
    """Put the bomb into a consumer.

    Args:
        point: where.
        bomb: which.
        app: the module with its handlers.
    """
    from outbox.consumer import Consumer  # noqa: PLC0415
    from outbox.consumer.dispatcher import Dispatcher  # noqa: PLC0415
    from outbox.consumer.subscription import Subscription  # noqa: PLC0415

    places: dict[str, Callable[[], None]] = {
        "C1": lambda: before(Dispatcher, "add", bomb),
        "C2": lambda: before(Consumer, "_leased", bomb),
        "C3": lambda: after(app, "act", bomb),
        "C4": lambda: before(Subscription, "ack", bomb),
        "C5": lambda: after(Subscription, "ack", bomb),
    }
    places[point]()
