"""One RabbitMQ for all workers of a run, started while they collect: a start takes seconds of processor."""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import containers
import light
from helpers import eventually

from relay import sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 150.0


class Together:
    """Starts it in the process that the workers belong to, and stops it when they are done."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(light.folder())
        self._starting = threading.Thread(target=self._start, name="together")
        self._starting.start()

    def close(self) -> None:
        """Stop it, and remove what it wrote."""
        self._starting.join()
        self._stack.close()

    def _start(self) -> None:
        told: dict[str, object] = {}
        with suppress(Exception):  # a worker that fails to start one says it better
            told = self._started()
        made = self.folder / "made"
        made.write_text(json.dumps(told))
        made.rename(self.folder / "told")

    def _started(self) -> dict[str, object]:
        if os.environ.get("OUTBOX_TEST_BROKER_URL") or not containers.why_no_engine():
            return {}  # another one is preferred
        server = sandbox.rabbitmq(self.folder / "rabbitmq")
        self._stack.callback(server.close)
        return {"ports": server.ports, "source": server.source}


class Borrowed:
    """A RabbitMQ that runs in another process of ours."""

    def __init__(self, folder: Path, ports: Sequence[int], source: str) -> None:
        self._handle = sandbox.RabbitMQ(folder)
        self._handle.ports = ports
        self.url, self.source = self._handle.url, source

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        return self._handle.ctl(*arguments)

    def close(self) -> None:
        """Leave it to the others."""
        self._handle.close()


def borrowed(folder: str | None) -> Borrowed:
    """Wait for the one in ``folder``.

    Raises:
        Unavailable: there is none. Why is not said: whoever then tries to start one says it.
    """
    if folder is None:
        raise sandbox.Unavailable
    told = Path(folder) / "told"
    eventually(told.exists, PATIENCE)
    found = json.loads(told.read_text())
    if not found:
        raise sandbox.Unavailable
    return Borrowed(Path(folder) / "rabbitmq", found["ports"], found["source"])
