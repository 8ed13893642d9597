"""The fixtures: servers, databases, virtual hosts, broken networks, processes.

What needs a server skips with the reason where there is none, or fails if ``OUTBOX_TEST_REQUIRE`` names
the server.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import hypothesis
import light
import pytest
import redis
from bouncer import PgBouncer
from brokers import VirtualHosts
from databases import Database, Databases
from processes import Processes
from servers import (
    AnyServer,
    Broker,
    GivenBroker,
    Servers,
    postgres_sources,
    rabbitmq_sources,
    valkey_sources,
)
from shifts import Shifts, in_order
from together import Together

from relay import sandbox
from relay.theatre.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from relay.sandbox.binaries import Source

pytest_plugins = ["faults.figures"]

_SERVERS = pytest.StashKey[Servers]()
_TOGETHER = pytest.StashKey[Together]()
_PRIVATE: tuple[Source, ...] = ("binary", "wheel")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let each source be forced."""
    group = parser.getgroup("outbox")
    group.addoption("--db", default="auto", choices=["auto", "env", "container", "binary", "wheel"])
    group.addoption("--broker", default="auto", choices=["auto", "env", "container", "binary"])


def pytest_configure(config: pytest.Config) -> None:
    """Remember what this run must not skip."""
    names = os.environ.get("OUTBOX_TEST_REQUIRE", "").replace(",", " ").split()
    config.stash[_SERVERS] = Servers(frozenset(names))
    # Four workers on two cores: an example that takes a second says nothing of the code.
    hypothesis.settings.register_profile("house", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("house")


def pytest_report_header(config: pytest.Config) -> str:
    """Say how servers will be chosen; which ones they became stands at the end."""
    required = ", ".join(sorted(config.stash[_SERVERS].required)) or "none"
    return (
        f"servers: --db={config.getoption('db')} --broker={config.getoption('broker')}, required: {required}"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which servers the tests used, and which they did not, and why."""
    lines = config.stash[_SERVERS].report()
    if lines:
        terminalreporter.section("servers")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker of pytest-xdist where the RabbitMQ is that all of them share."""
    stash = node.config.stash
    if node.config.getoption("broker") in ("auto", "binary"):
        if _TOGETHER not in stash:
            stash[_TOGETHER] = Together()
        node.workerinput["together"] = str(stash[_TOGETHER].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the workers shared."""
    if _TOGETHER in config.stash:
        config.stash[_TOGETHER].close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a worker of pytest-xdist hand its account to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["servers"] = session.config.stash[_SERVERS].account()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take over a worker's account; one that crashed left none."""
    node.config.stash[_SERVERS].join(getattr(node, "workeroutput", {}).get("servers", ({}, {})))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shifts | None:
    """Share the tests out; ``--dist`` can ask for another way."""
    return Shifts(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    in_order(items)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """Choose servers and keep the account of it."""
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Where servers that tests share have their data."""
    with light.folder() as made:
        yield made


@pytest.fixture(scope="session")
def postgres(servers: Servers, pytestconfig: pytest.Config, server_folder: Path) -> Iterator[AnyServer]:
    """PostgreSQL, shared by all tests: never stop it. See ``own_postgres``."""
    sources = postgres_sources(server_folder / "postgres", {})
    for server in servers.first("postgres", pytestconfig.getoption("db"), sources):
        if isinstance(server, sandbox.Postgres):
            light.quick_login(server.url)
        yield server


@pytest.fixture(scope="session")
def databases(postgres: AnyServer) -> Iterator[Databases]:
    """Makes databases on the shared PostgreSQL."""
    made = Databases(postgres)
    yield made
    made.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A database of the test's own, with our schema."""
    with databases.migrated() as fresh:
        yield fresh


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A database of the test's own, with nothing in it."""
    with databases.empty() as fresh:
        yield fresh


@pytest.fixture
def own_postgres(servers: Servers, pytestconfig: pytest.Config) -> Iterator[sandbox.Postgres]:
    """A PostgreSQL of the test's own, to kill, freeze and restart."""
    asked = pytestconfig.getoption("db")
    with light.folder() as made:
        sources = [(kind, partial(sandbox.postgres, made / "postgres", source=kind)) for kind in _PRIVATE]
        yield from servers.first("own postgres", asked if asked in _PRIVATE else "auto", sources)


@pytest.fixture
def own_database(own_postgres: sandbox.Postgres) -> Iterator[Database]:
    """A database with our schema on ``own_postgres``."""
    yield from _in(Databases(own_postgres))


def _in(databases: Databases) -> Iterator[Database]:
    # Not dropped: the server may be dead by now, and it goes away as a whole.
    database = databases.kept()
    databases.close()
    yield database
    database.engine.dispose()


@pytest.fixture(scope="session")
def rabbitmq(servers: Servers, pytestconfig: pytest.Config, server_folder: Path) -> Iterator[Broker]:
    """RabbitMQ, shared by all tests: never stop it. See ``own_rabbitmq``."""
    together = getattr(pytestconfig, "workerinput", {}).get("together")
    sources = rabbitmq_sources(server_folder / "rabbitmq", together)
    yield from servers.first("rabbitmq", pytestconfig.getoption("broker"), sources)


@pytest.fixture(scope="session")
def virtual_hosts(rabbitmq: Broker) -> Iterator[VirtualHosts]:
    """Makes virtual hosts on the shared RabbitMQ."""
    made = VirtualHosts(rabbitmq)
    yield made
    if isinstance(rabbitmq, GivenBroker):  # one of our own goes away as a whole
        made.close()


@pytest.fixture
def amqp_url(virtual_hosts: VirtualHosts) -> str:
    """Return ``amqp://…`` of a virtual host of the test's own."""
    return virtual_hosts.next_url()


@pytest.fixture(scope="session")
def torn_rabbitmq(servers: Servers, server_folder: Path) -> Iterator[sandbox.RabbitMQ]:
    """RabbitMQ beside the shared one; ask for ``own_rabbitmq``, which mends it between tests."""
    sources = [("binary", lambda: sandbox.rabbitmq(server_folder / "own-rabbitmq"))]
    yield from servers.first("own rabbitmq", "auto", sources)


@pytest.fixture
def own_rabbitmq(torn_rabbitmq: sandbox.RabbitMQ) -> Iterator[sandbox.RabbitMQ]:
    """RabbitMQ to kill, freeze and restart. It takes 5 s to start: all tests that ask for it share it."""
    torn_rabbitmq.resume()
    torn_rabbitmq.start()
    yield torn_rabbitmq
    torn_rabbitmq.resume()


@pytest.fixture
def own_amqp_url(own_rabbitmq: sandbox.RabbitMQ) -> str:
    """Return ``amqp://…`` of a fresh virtual host on ``own_rabbitmq``."""
    return VirtualHosts(own_rabbitmq, at_once=1).next_url()


@pytest.fixture(scope="session")
def valkey(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyServer]:
    """Valkey or Redis, shared by all tests."""
    yield from servers.first("valkey", "auto", valkey_sources(tmp_path_factory.mktemp("valkey")))


@pytest.fixture
def redis_url(valkey: AnyServer) -> str:
    """Return ``redis://…`` of an empty database."""
    with redis.Redis.from_url(valkey.url) as client:
        client.flushdb()
    return valkey.url


@pytest.fixture
def pgbouncer(servers: Servers, database: Database, tmp_path: Path) -> Iterator[PgBouncer]:
    """PgBouncer in transaction pooling, in front of ``database``."""

    def start() -> PgBouncer:
        bouncer = PgBouncer(tmp_path, database.dsn)
        bouncer.start()
        return bouncer

    yield from servers.first("pgbouncer", "auto", [("binary", start)])


@pytest.fixture
def proxy() -> Iterator[Callable[[str], Proxy]]:
    """Put a proxy that fails on demand in front of a URL's server: ``proxy(url).url(url)``."""
    made: list[Proxy] = []

    def start(url: str) -> Proxy:
        parts = urlsplit(url)
        made.append(Proxy(parts.hostname or "", parts.port or 0))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def processes(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Processes]:
    """Start real processes; none outlives the test."""
    paths = [str(pytestconfig.rootpath), *filter(None, [os.environ.get("PYTHONPATH")])]
    started = Processes({"PYTHONPATH": os.pathsep.join(paths)}, tmp_path)
    yield started
    started.close()
