"""Where handlers run: a pool of threads, or one event loop on a thread of its own.

The threads are daemons: a handler that never returns must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_LAST_WORDS: Final = 4.0
"""Seconds that cancelled handlers and the application's context managers have at the end."""


class Crew(Protocol):
    """Runs functions that talk to the database."""

    def start(self, lifespans: Sequence[Callable[[], Any]]) -> None:
        """Begin; enter the application's context managers."""

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function some time soon. It must not raise."""

    def call(self, function: Callable[[], None]) -> None:
        """Run a function now, and wait for it; raises what it raises."""

    def close(self) -> None:
        """End; leave the application's context managers."""


class Threads:
    """A pool of threads.

    Args:
        size: How many functions run at once.
    """

    def __init__(self, size: int) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lifespans = ExitStack()
        self._threads = [
            threading.Thread(target=self._serve, name=f"outbox-handler-{number}", daemon=True)
            for number in range(1, size + 1)
        ]

    def start(self, lifespans: Sequence[Callable[[], Any]]) -> None:
        """Begin; enter the application's context managers."""
        for lifespan in lifespans:
            self._lifespans.enter_context(lifespan())
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function some time soon. It must not raise."""
        self._work.put(function)

    def call(self, function: Callable[[], None]) -> None:
        """Run a function now."""
        function()

    def close(self) -> None:
        """End the threads that have nothing to do; leave the application's context managers."""
        for _ in self._threads:
            self._work.put(None)
        self._lifespans.close()

    def _serve(self) -> None:
        while (function := self._work.get()) is not None:
            function()


class Loop:
    """One event loop, where functions run as SQLAlchemy runs blocking code on awaited connections."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lifespans = AsyncExitStack()

    def start(self, lifespans: Sequence[Callable[[], Any]]) -> None:
        """Begin; enter the application's context managers."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, args=(self._loop,), name="outbox-loop", daemon=True).start()
        for lifespan in lifespans:
            self._wait(self._lifespans.enter_async_context(lifespan()))

    def submit(self, function: Callable[[], None]) -> None:
        """Run a function some time soon. It must not raise."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(greenlet_spawn(function), self._loop)

    def call(self, function: Callable[[], None]) -> None:
        """Run a function now, and wait for it; raises what it raises."""
        self._wait(greenlet_spawn(function))

    def close(self) -> None:
        """Cancel what is left, leave the application's context managers, end the loop.

        A loop that a handler blocks is left to the end of the process.
        """
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(_LAST_WORDS)
        except TimeoutError:
            return
        finally:
            loop.call_soon_threadsafe(loop.stop)

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_WORDS / 2)
        await self._lifespans.aclose()
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _wait(self, coroutine: Any) -> None:
        if self._loop is None:
            coroutine.close()
            return
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
