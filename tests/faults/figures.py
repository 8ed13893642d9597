"""Figures that a test measured: shown at the end of the run, and held to what is promised.

A plugin of pytest (``tests/conftest.py`` names it), so that also the process that only shares tests out to
workers knows how to print them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.workermanage import WorkerController

    from relay.theatre.judge import Report

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no figures."""
    config.stash[_LINES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was measured, also where all is well."""
    if config.stash[_LINES]:
        terminalreporter.section("figures of the fault tests")
        for line in config.stash[_LINES]:
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a worker of pytest-xdist hand its figures to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = session.config.stash[_LINES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take over a worker's figures; one that crashed left none."""
    node.config.stash[_LINES] += getattr(node, "workeroutput", {}).get("figures", [])


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Note what the test measures."""
    return Figures(request.config.stash[_LINES], request.node.name)


class Figures:
    """Collects lines for the end of the run.

    Args:
        lines: of all tests.
        test: whose these are.
    """

    def __init__(self, lines: list[str], test: str) -> None:
        self._lines, self._test = lines, test

    def say(self, told: object) -> None:
        """Add a line."""
        self._lines.append(f"{self._test}: {told}")

    def row(
        self, fault: str, report: Report, recovery: float, *, relay: str = "-", consumer: str = "-"
    ) -> None:
        """Add a row of the fault matrix.

        Args:
            fault: what was done, and to what.
            report: what was lost, came from nowhere, or came twice.
            recovery: seconds from the fault, or from its end where nobody else can step in.
            relay: what the relay did about it.
            consumer: what consumers did about it.
        """
        duplicates = report.duplicates.total()
        counts = f"lost {len(report.lost)} | ghosts {len(report.ghosts)} | duplicates {duplicates}"
        self.say(f"{fault} | relay: {relay} | consumer: {consumer} | {counts} | recovery {recovery:.2f} s")

    def within(self, most: float, seconds: Sequence[float], what: str) -> None:
        """Hold durations to what is promised, on a machine that may stall for a moment.

        Args:
            most: what is promised. One in ten (one of four) may be late, and none three times as late.
            seconds: what was measured.
            what: it was.

        Raises:
            AssertionError: the promise was broken.
        """
        ranked = sorted(seconds)
        told = f"{what}: {', '.join(f'{value:.3f}' for value in ranked)} s (promised: {most:g} s)"
        self.say(told)
        late = [value for value in ranked if value > most]
        assert len(late) <= max(len(ranked) // 10, min(1, len(ranked) // 4)), told
        assert ranked[-1] <= 3 * most, told
