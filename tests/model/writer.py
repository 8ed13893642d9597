"""Transactions that add jobs: they draw an xid, then a position, and commit late or never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.change import put
from model.state import BEGUN, DONE, DRAWN, GONE, IDLE, OPEN, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.rules import Setting
    from model.state import Move, World


def writer(world: World, setting: Setting) -> Iterator[Move]:
    """Begin, insert, commit, roll back. Jobs are numbered in the order in which their transactions begin."""
    slow = setting.scope.writers == "slow"
    idle = [n for n, job in enumerate(world.jobs) if job.tx == IDLE]
    if idle:
        n = idle[0]
        yield from _begin(world, setting, n) if slow else _add(world, setting, n)
    if slow:
        for n, job in enumerate(world.jobs):
            if job.tx == BEGUN:
                yield Step("writer", "inserts, drawing a position", n), _insert(world, n, OPEN)
            elif job.tx == DRAWN:
                yield Step("writer", "draws its xid", n), put(world, n, job._replace(tx=OPEN))
            elif job.tx == OPEN:
                yield from _end(world, setting, n)


def _add(world: World, setting: Setting, n: int) -> Iterator[Move]:
    inserted = _insert(put(world, n, world.jobs[n]._replace(after=_committed(world))), n, DONE)
    yield Step("writer", "adds and commits", n), _flushed(inserted, setting, n)


def _begin(world: World, setting: Setting, n: int) -> Iterator[Move]:
    job = world.jobs[n]._replace(after=_committed(world))
    if setting.rules.xid_first:
        yield Step("writer", "begins, drawing its xid", n), put(world, n, job._replace(tx=BEGUN))
    else:
        yield Step("writer", "begins, drawing a position", n), _insert(put(world, n, job), n, DRAWN)


def _insert(world: World, n: int, tx: str) -> World:
    pos = world.seq + 1
    return put(world._replace(seq=pos), n, world.jobs[n]._replace(tx=tx, pos=pos, line=pos))


def _end(world: World, setting: Setting, n: int) -> Iterator[Move]:
    done = put(world, n, world.jobs[n]._replace(tx=DONE))
    yield Step("writer", "commits", n), _flushed(done, setting, n)
    yield Step("writer", "rolls back", n), put(world, n, world.jobs[n]._replace(tx=GONE))


def _flushed(world: World, setting: Setting, n: int) -> World:
    return put(world, n, world.jobs[n]._replace(durable=False)) if setting.scope.lazy else world


def _committed(world: World) -> int:
    return sum(1 << n for n, job in enumerate(world.jobs) if job.tx == DONE)
