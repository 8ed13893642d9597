"""Who of pytest-xdist's workers runs what, and when: what takes long first, what shares a server together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from xdist.remote import Producer

OWN_RABBITMQ = "own_rabbitmq"
FIRST = (
    "tests/faults/test_database_down.py",  # minutes of the long run, waiting for most of them
    "tests/faults/test_stranded.py",
    "tests/faults/",
    "tests/field/",
    "tests/migrations/",
    "tests/relay/",
)
"""Where a module takes longest; what comes last should be short, or one worker is left alone with it."""


APART = ("tests/faults/test_mutants.py", "tests/faults/test_crash_points.py")
"""Modules of many long tests that share nothing: any worker may take any of them."""


class Shifts(LoadScopeScheduling):
    """A module stays with one worker, and so do all modules that torment a RabbitMQ: it takes 5 s to start.

    Args:
        config: of the run. Modules keep the order in which they were collected, see :func:`in_order`.
        log: where pytest-xdist tells what it does.
    """

    def __init__(self, config: pytest.Config, log: Producer | None) -> None:
        config.option.loadscopereorder = False  # by the number of tests, which says little of their length
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        if module in APART:
            return nodeid
        return OWN_RABBITMQ if torments_rabbitmq(self.config.rootpath / module) else module


def in_order(items: list[pytest.Item]) -> None:
    """Put first what takes longest."""
    modules = {item.path: torments_rabbitmq(item.path) for item in items}
    items.sort(key=lambda item: (not modules[item.path], _place(item.nodeid)))


def torments_rabbitmq(module: Path) -> bool:
    """Whether tests of a module kill or freeze a RabbitMQ."""
    return OWN_RABBITMQ in module.read_text()


def _place(nodeid: str) -> int:
    return next((place for place, folder in enumerate(FIRST) if nodeid.startswith(folder)), len(FIRST))
