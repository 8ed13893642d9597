"""Directs the torture: processes, faults, the wait for what is on its way, the verdict."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from outbox.errors import ConfigError
from relay.theatre.judge import judge
from relay.torture import faults, picture, scratch, setting, table, vitals
from relay.torture.history import DELIVERED, WRITTEN, History
from relay.torture.report import Outcome
from relay.torture.screen import Screen
from relay.torture.stage import CONSUMER, RELAY, WIRETAP, WRITER, NotNow, await_event
from relay.torture.tormentor import Tormentor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relay.theatre.judge import Report
    from relay.torture.faults import Fault
    from relay.torture.setting import Options, Setting

RELAYS, CONSUMERS, WRITERS = 2, 2, 2
START_WITHIN: Final = 60.0
PATIENCE: Final = 120.0
"""Seconds after the load, and those of the load once more, in which all that was committed must be done."""
HEAL_WITHIN: Final = 150.0
END_WITHIN: Final = 30.0
LOOK_EVERY: Final = 0.25
STRAGGLERS: Final = 1.0
QUIET: Final = 10.0


def run(options: Options) -> int:
    """Torture; return the exit code: 0 if every promise was kept, else 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    folder = Path(tempfile.mkdtemp(prefix="outbox-torture-"))
    screen = Screen(aside=options.as_json)
    with ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            outcome = Torture(options, folder, screen, stack).perform()
        finally:  # a second Ctrl-C must not keep us from tidying up
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    screen.close(outcome)
    if options.picture is not None:
        options.picture.write_text(picture.draw(outcome), encoding="utf-8")
    if options.as_json:
        sys.stdout.write(f"{json.dumps(outcome.as_dict(), indent=2)}\n")
    if options.keep:
        screen.tell(f"logs and journals: {folder}")
    return 0 if outcome.kept else 1


class Torture:
    """One of them.

    Args:
        options: what was chosen.
        folder: for data, logs and journals.
        screen: shows it.
        stack: ends everything, in reverse.
    """

    def __init__(self, options: Options, folder: Path, screen: Screen, stack: ExitStack) -> None:
        self._options, self._screen = options, screen
        self._seconds = 60 * options.minutes
        self._setting: Setting = setting.prepare(options, folder, screen.tell, stack)
        self._stage, self._folder = self._setting.stage, folder
        self._history = History(folder)
        self._seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
        self._tormentor = Tormentor(self._stage, self._chosen(), self._seed, screen.tell)
        stack.callback(self._tormentor.close)
        self._vitals: dict[float, dict[str, vitals.Sample]] = {}

    def perform(self) -> Outcome:
        """Do it, from the first process to the verdict."""
        self._raise_curtain()
        with self._screen.live():
            began = time.monotonic()
            self._tormentor.start()
            for share in vitals.SHARES:
                self._until_time(began + share * self._seconds)
                self._vitals[share] = vitals.take(self._stage)
            self._tormentor.stop()
            self._until(lambda: not self._tormentor.running, HEAL_WITHIN)
            self._stage.dismiss(WRITER, END_WITHIN)
            patience = PATIENCE + self._seconds
            self._screen.tell(f"load and faults are over; waiting up to {patience:.0f} s for the rest")
            ended = time.monotonic()
            self._until(self._all_done, patience)
            waited = time.monotonic() - ended
            self._until_time(ended + waited + STRAGGLERS)
        return self._outcome(began, waited)

    def _chosen(self) -> dict[str, Fault]:
        possible, wanted = faults.possible(self._stage), self._options.faults
        impossible = [name for name in wanted if name not in possible]
        if impossible:
            raise ConfigError(
                [f"--faults {name} cannot be inflicted on these servers" for name in impossible]
            )
        return {name: possible[name] for name in wanted or possible}

    def _raise_curtain(self) -> None:
        """Start those who listen first: a message that the wiretap alone gets is routable, and not done."""
        enter, name = self._stage.enter, self._setting.scratch
        file, queue = str(self._folder / DELIVERED), scratch.wiretap_queue(name)
        broker = {"OUTBOX_BROKER_URL": self._stage.broker_url}
        enter(WIRETAP, WIRETAP, "relay.theatre.wiretap", file, name, queue, env=broker)
        self._enter(CONSUMER, CONSUMERS, "relay", "consume", "relay.torture.work:handlers")
        for actor in self._stage.of(CONSUMER):
            await_event(actor, ["consumer_started"], START_WITHIN)
        self._enter(RELAY, RELAYS, "relay", "relay")
        self._until(self._led, START_WITHIN)
        rate = str(self._options.rate / WRITERS)
        for number in range(WRITERS):
            file, writer = str(self._folder / f"{WRITTEN}{number + 1}"), f"{WRITER}-{number + 1}"
            enter(WRITER, writer, "relay.torture.writer", file, writer, rate, env=self._setting.env(WRITER))
        self._screen.tell(
            f"{WRITERS} writers, {RELAYS} relays and {CONSUMERS} consumers are at work; seed {self._seed}"
        )

    def _enter(self, kind: str, count: int, *argv: str) -> None:
        for number in range(count):
            self._stage.enter(kind, f"{kind}-{number + 1}", *argv, env=self._setting.env(kind))

    def _until(self, over: Callable[[], bool], within: float = float("inf")) -> None:
        """Look after everything until something is true, or for a time."""
        deadline = time.monotonic() + within
        while not over() and time.monotonic() < deadline:
            self._stage.tend()
            self._tormentor.check()
            self._history.look()
            self._screen.show(self._history, self._stage.restarts)
            time.sleep(LOOK_EVERY)

    def _until_time(self, moment: float) -> None:
        self._until(lambda: time.monotonic() > moment)

    def _led(self) -> bool:
        try:
            self._stage.leader()
        except NotNow:
            return False
        return True

    def _all_done(self) -> bool:
        with suppress(psycopg.OperationalError), self._stage.connect() as connection:
            if table.unfinished(connection):
                return False
            report = self._judged(self._history.effects(table.effects(connection)))
            return not (report.lost or report.wrong_effects or report.forgotten) or self._quiet()
        return False

    def _quiet(self) -> bool:
        """Whether nothing has arrived lately: what is missing, with nothing left to do, will not come."""
        last = max((delivery.at for delivery in self._history.deliveries), default=0.0)
        return time.monotonic() > max(last, self._history.called_at) + QUIET

    def _judged(self, effects: Mapping[str, int]) -> Report:
        history, forgetful = self._history, self._setting.forgetful
        return judge(
            history.account, history.deliveries, handled=history.handled, effects=effects, forgetful=forgetful
        )

    def _outcome(self, began: float, waited: float) -> Outcome:
        history = self._history
        with self._stage.connect() as connection:
            effects = history.effects(table.effects(connection))
            report = self._judged(effects)
            wrong = report.lost | report.ghosts | report.wrong_effects | report.unflagged | report.forgotten
            (self._folder / "missing").write_text(
                "".join(f"{x}\n" for x in table.described(connection, wrong))
            )
            return Outcome(
                report=report,
                calls=history.runs,
                effects=effects.total(),
                sent_again=table.sent_again(connection),
                unfinished=table.unfinished(connection),
                seed=self._seed,
                seconds=self._seconds,
                servers=self._setting.servers,
                inflictions=self._tormentor.inflictions,
                times=sorted(delivery.at for delivery in history.deliveries),
                began=began,
                waited=waited,
                vitals=self._vitals,
                restarts=self._stage.restarts,
                dropouts=self._stage.dropouts,
            )
