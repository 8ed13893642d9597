"""Fixtures of the fault tests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from faults.collector import Collector
from faults.fleet import Fleet
from faults.namespaces import Namespace, Quality, namespace
from faults.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Database
    from faults.figures import Figures
    from processes import Processes
    from servers import Servers


@pytest.fixture
def pipeline(processes: Processes, database: Database, amqp_url: str, figures: Figures) -> Iterator[Pipeline]:
    """A way for jobs on the shared servers; no relay is started yet."""
    fleet = Fleet(processes, database.dsn, amqp_url)
    with Collector(amqp_url) as collector:
        yield Pipeline(database, amqp_url, fleet, collector, figures)


@pytest.fixture
def network(
    request: pytest.FixtureRequest, servers: Servers, database: Database, amqp_url: str
) -> Iterator[Namespace]:
    """A network namespace from which a line leads to the shared servers; its parameter: the quality."""
    quality: Quality | None = getattr(request, "param", None)
    with ExitStack() as stack:

        def start() -> Namespace:
            made = stack.enter_context(namespace(quality))
            for url in (database.dsn, amqp_url):
                made.to(url)  # or it says why no line leads there
            return made

        yield servers.need(f"network namespace, {quality or 'good line'}", "auto", [("root", start)])


@pytest.fixture
def across(
    processes: Processes, database: Database, amqp_url: str, network: Namespace, figures: Figures
) -> Iterator[Pipeline]:
    """A way for jobs, of which any part may lie behind the line of ``network``."""
    fleet = Fleet(processes, network.to(database.dsn), network.to(amqp_url))
    with Collector(amqp_url) as collector:
        yield Pipeline(database, amqp_url, fleet, collector, figures)
