"""Carries out the plan in a thread of its own: inflicts, waits, heals, and remembers when."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import psycopg

from outbox.errors import OutboxError
from relay.torture.plan import rounds
from relay.torture.stage import NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relay.torture.faults import Fault
    from relay.torture.stage import Stage

WARM_UP: Final = 2.0
"""Seconds without faults at the beginning, and at the end: what recovers must have somebody who looks on."""


@dataclass
class Infliction:
    """A fault that was inflicted, and what it did to whom. Times in seconds of ``time.monotonic``."""

    fault: str
    told: str
    at: float
    until: float | None = None
    """Null while it is at work."""


class Tormentor:
    """Inflicts faults until it is stopped.

    Args:
        stage: on which.
        faults: which.
        seed: of their sequence.
        tell: hears what happens.
    """

    def __init__(
        self, stage: Stage, faults: Mapping[str, Fault], seed: int, tell: Callable[[str], None]
    ) -> None:
        self._stage, self._faults, self._tell = stage, faults, tell
        # What is chosen in a fault must not change the sequence of faults.
        self._plan = rounds(Random(seed), {name: fault.lasts for name, fault in faults.items()})  # noqa: S311
        self._dice = Random(seed + 1)  # noqa: S311
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tormentor", daemon=True)
        self.inflictions: list[Infliction] = []
        self._failure: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Heal what is at work, and end; ``running`` says when that is done."""
        self._over.set()

    @property
    def running(self) -> bool:
        """Whether it is at work, or heals.

        Raises:
            OutboxError: something could not be inflicted, or healed.
        """
        self.check()
        return self._thread.is_alive()

    def check(self) -> None:
        """Make sure that there are faults: a run that goes on without any would prove nothing.

        Raises:
            OutboxError: something could not be inflicted, or healed.
        """
        if self._failure is not None:
            raise OutboxError(f"torture: a fault went wrong: {self._failure}") from self._failure

    def close(self, within: float = 10.0) -> None:
        """Heal and end, whatever came between; wait at most ``within`` seconds."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(within)

    def _run(self) -> None:
        if self._over.wait(WARM_UP):
            return
        for planned in self._plan:
            try:
                with ExitStack() as healing:
                    for name in planned.faults:
                        self._inflict(self._faults[name], healing)
                    self._over.wait(planned.lasts)
            except Exception as error:  # noqa: BLE001 - raised by whoever stops us
                self._failure = error
                return
            if self._over.wait(planned.calm):
                return

    def _inflict(self, fault: Fault, healing: ExitStack) -> None:
        began = Infliction(fault.name, "", time.monotonic())
        self.inflictions.append(began)
        healing.callback(self._healed, began)  # the last, after the fault itself
        try:
            began.told = healing.enter_context(fault.act(self._stage, self._dice))
        except (NotNow, psycopg.Error):  # or its victim lies already
            self.inflictions.remove(began)
            return
        self._tell(f"{fault.name}: {began.told}")

    @staticmethod
    def _healed(infliction: Infliction) -> None:
        infliction.until = time.monotonic()
