"""What can go wrong: each fault is a context manager that inflicts it, says what it did, and heals it.

``Fault.needs`` names what it cannot do without: nothing, a proxy, or a server that is ours to break. What is
hurt is scratch, or ours: other users of a named server notice nothing.
"""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from relay.sandbox import RabbitMQ, Valkey
from relay.torture import links, scratch, table
from relay.torture.stage import CONSUMER, RELAY, WRITER, NotNow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from random import Random

    from relay.torture.stage import Stage

    Act = Callable[[Stage, Random], AbstractContextManager[str]]

POSTGRES, BROKER, RABBITMQ, VALKEY = "own PostgreSQL", "own broker", "own RabbitMQ", "own Valkey"

AT_ONCE: Final = (0.0, 0.5)
A_WHILE: Final = (1.0, 5.0)
LONG: Final = (3.0, 12.0)

LATENCY: Final = (0.02, 0.3)
LOCKED: Final = 300
CUT_AFTERWARDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them.

    Args:
        name: for ``--faults``.
        told: what it does.
        lasts: seconds, at least and at most.
        act: inflicts it, yields what it did to whom, and heals it. Raises ``NotNow``.
        needs: see the module.
    """

    name: str
    told: str
    lasts: tuple[float, float]
    act: Act
    needs: str = ""


@contextmanager
def _signal_leader(stage: Stage, _dice: Random, number: signal.Signals) -> Iterator[str]:
    leader = stage.leader()
    leader.signal(number)
    yield leader.name


@contextmanager
def _signal(stage: Stage, dice: Random, kind: str, number: signal.Signals) -> Iterator[str]:
    actor = stage.one_of(kind, dice)
    actor.signal(number)
    yield actor.name


@contextmanager
def _freeze(stage: Stage, dice: Random, kind: str) -> Iterator[str]:
    actor = stage.leader() if kind == RELAY else stage.one_of(kind, dice)
    actor.signal(signal.SIGSTOP)
    try:
        yield actor.name
    finally:
        actor.signal(signal.SIGCONT)


@contextmanager
def _end_session(stage: Stage, _dice: Random) -> Iterator[str]:
    with stage.connect() as connection:
        if not table.end_leaders_session(connection):
            raise NotNow("no relay leads")
    yield "the leader's"


# Transactions end with their connection: beside another fault the server may be gone when they are over.


@contextmanager
def _lock_rows(stage: Stage, _dice: Random) -> Iterator[str]:
    with closing(stage.connect()) as connection:
        connection.execute("BEGIN")
        yield f"{table.lock_jobs(connection, LOCKED)} jobs"


@contextmanager
def _hold_snapshot(stage: Stage, _dice: Random) -> Iterator[str]:
    with closing(stage.connect()) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM outbox.job")
        yield "vacuum"


@contextmanager
def _cut(stage: Stage, _dice: Random, link: str) -> Iterator[str]:
    proxy = stage.links.proxies[link]
    open_ = proxy.connections
    proxy.cut()
    yield f"{open_} connections"


@contextmanager
def _stall(stage: Stage, dice: Random, link: str) -> Iterator[str]:
    proxy = stage.links.proxies[link]
    what = dice.choice(("stall", "stall_replies", "stall_requests"))
    cut = dice.random() < CUT_AFTERWARDS
    getattr(proxy, what)()
    try:
        way = {"stall": "both ways"}.get(what, what.removeprefix("stall_"))
        yield f"{way}, then cut" if cut else way
    finally:
        if cut:  # what was held back is lost
            proxy.cut()
        proxy.resume()


@contextmanager
def _delay(stage: Stage, dice: Random, link: str) -> Iterator[str]:
    proxy, seconds = stage.links.proxies[link], dice.uniform(*LATENCY)
    proxy.delay(seconds)
    try:
        yield f"{1000 * seconds:.0f} ms each way"
    finally:
        proxy.delay(0)


@contextmanager
def _restart_postgres(stage: Stage, _dice: Random, *, kill: bool) -> Iterator[str]:
    server = stage.postgres
    if server is None:
        raise NotNow("it is not ours")
    if kill:
        server.kill()
        server.start()
    else:
        server.restart("immediate")
    yield "PostgreSQL"


@contextmanager
def _restart_broker(stage: Stage, _dice: Random, *, kill: bool) -> Iterator[str]:
    server = stage.broker
    if server is None:
        raise NotNow("it is not ours")
    server.restart("immediate" if kill else "fast")
    yield server.name


@contextmanager
def _freeze_server(stage: Stage, _dice: Random, which: str) -> Iterator[str]:
    server = stage.postgres if which == POSTGRES else stage.broker
    if server is None:
        raise NotNow("it is not ours")
    server.pause()
    try:
        yield server.name
    finally:
        server.resume()


@contextmanager
def _alarm(stage: Stage, _dice: Random) -> Iterator[str]:
    server = stage.broker
    if not isinstance(server, RabbitMQ):
        raise NotNow("no RabbitMQ")
    server.ctl("set_vm_memory_high_watermark", "0")
    try:
        yield "connection.blocked"
    finally:
        server.ctl("set_vm_memory_high_watermark", "0.4")


@contextmanager
def _flush(stage: Stage, _dice: Random) -> Iterator[str]:
    if not isinstance(stage.broker, Valkey):
        raise NotNow("no Valkey")
    scratch.forget_everything(stage.broker_url)
    yield "queues and bindings"


def _processes() -> Iterator[Fault]:
    yield Fault("kill-leader", "SIGKILL", AT_ONCE, partial(_signal_leader, number=signal.SIGKILL))
    yield Fault("stop-leader", "SIGTERM", AT_ONCE, partial(_signal_leader, number=signal.SIGTERM))
    yield Fault("freeze-leader", "SIGSTOP, later SIGCONT", LONG, partial(_freeze, kind=RELAY))
    yield Fault("kill-consumer", "SIGKILL", AT_ONCE, partial(_signal, kind=CONSUMER, number=signal.SIGKILL))
    yield Fault("stop-consumer", "SIGTERM", AT_ONCE, partial(_signal, kind=CONSUMER, number=signal.SIGTERM))
    yield Fault("freeze-consumer", "SIGSTOP, later SIGCONT", LONG, partial(_freeze, kind=CONSUMER))
    yield Fault("kill-writer", "SIGKILL", AT_ONCE, partial(_signal, kind=WRITER, number=signal.SIGKILL))


def _database() -> Iterator[Fault]:
    yield Fault("end-session", "pg_terminate_backend of the leader's session", AT_ONCE, _end_session)
    yield Fault("lock-rows", f"another transaction locks {LOCKED} jobs", A_WHILE, _lock_rows)
    yield Fault("hold-snapshot", "a transaction keeps vacuum from working", LONG, _hold_snapshot)


def _network() -> Iterator[Fault]:
    for link in links.NAMES:
        needs = f"a proxy: {link}"
        yield Fault(f"cut-{link}", "reset every connection", AT_ONCE, partial(_cut, link=link), needs)
        yield Fault(
            f"stall-{link}",
            "nothing arrives, one way or both; then all does, or nothing ever",
            A_WHILE,
            partial(_stall, link=link),
            needs,
        )
        yield Fault(f"delay-{link}", "latency", A_WHILE, partial(_delay, link=link), needs)


def _servers() -> Iterator[Fault]:
    yield Fault(
        "restart-postgres",
        "restarted, mode immediate",
        AT_ONCE,
        partial(_restart_postgres, kill=False),
        POSTGRES,
    )
    yield Fault(
        "kill-postgres", "SIGKILL to all of it", AT_ONCE, partial(_restart_postgres, kill=True), POSTGRES
    )
    yield Fault("freeze-postgres", "SIGSTOP", A_WHILE, partial(_freeze_server, which=POSTGRES), POSTGRES)
    yield Fault(
        "restart-broker", "stopped and started", AT_ONCE, partial(_restart_broker, kill=False), BROKER
    )
    yield Fault("kill-broker", "SIGKILL to all of it", AT_ONCE, partial(_restart_broker, kill=True), BROKER)
    yield Fault("freeze-broker", "SIGSTOP", A_WHILE, partial(_freeze_server, which=BROKER), BROKER)
    yield Fault("block-broker", "memory alarm: publishers must pause", A_WHILE, _alarm, RABBITMQ)
    yield Fault("flush-broker", "FLUSHALL: it forgets everything", AT_ONCE, _flush, VALKEY)


FAULTS: Final = {
    fault.name: fault for group in (_processes, _database, _network, _servers) for fault in group()
}


def possible(stage: Stage) -> dict[str, Fault]:
    """Return what can be inflicted on this stage."""
    there = {f"a proxy: {link}" for link in stage.links.proxies} | {""}
    if stage.postgres is not None:
        there.add(POSTGRES)
    if stage.broker is not None:
        there |= {BROKER, VALKEY if isinstance(stage.broker, Valkey) else RABBITMQ}
    return {name: fault for name, fault in FAULTS.items() if fault.needs in there}
