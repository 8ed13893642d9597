"""The model's figures: how much was explored, shown at the end of the run."""

from __future__ import annotations

import pytest
from faults.figures import Figures

_LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no figures."""
    config.stash[_LINES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much was explored, also where all is well."""
    if config.stash[_LINES]:
        terminalreporter.section("figures of the model")
        for line in config.stash[_LINES]:
            terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Note how much a test explored."""
    return Figures(request.config.stash[_LINES], request.node.name)
