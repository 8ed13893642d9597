"""The relay's confirmed publishes a second, as a ratio to a bare kombu loop in the same run.

The bare loop has pipelined confirms and a window as large as the relay's, and no database: what a program
could do at best that promised nothing. The machine's speed drops out of the ratio; the rounds go in turn, so
that a neighbour's load hits both.
"""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, Final

import kombu
from ground import EXCHANGE, KIND, SIZE

from outbox import events
from relay.config import Settings
from relay.loop import Relay

if TYPE_CHECKING:
    from ground import Ground

JOBS: Final = 20_000
WINDOW: Final = 1000
TARGET: Final = 0.7
PATIENCE: Final = 120.0


def measure(ground: Ground, rounds: int) -> bool:
    """Print each round and the medians; return whether the target is met."""
    print(f"{JOBS} messages of {SIZE} bytes, windows of {WINDOW}, a quorum queue, {rounds} rounds in turn")
    rates: dict[str, list[float]] = {"bare": [], "relay": [], "keyed": []}
    for number in range(1, rounds + 1):
        rates["bare"].append(_bare(ground))
        rates["relay"].append(_relay(ground, keys=0))
        rates["keyed"].append(_relay(ground, keys=1000))
        print(f"round {number}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    bare, relay, keyed = (statistics.median(rates[name]) for name in ("bare", "relay", "keyed"))
    print(
        f"median: bare {bare:,.0f}/s, relay {relay:,.0f}/s, with 1,000 keys {keyed:,.0f}/s\n"
        f"relay to bare: {relay / bare:.2f} (target {TARGET}); with 1,000 keys: {keyed / bare:.2f}"
    )
    return relay / bare >= TARGET


def _bare(ground: Ground) -> float:
    """Publish with kombu alone, as fast as its window of confirms lets it."""
    flying: set[int] = set()

    def acked(tag: int, multiple: bool) -> None:
        flying.difference_update([known for known in flying if known <= tag] if multiple else [tag])

    body = b"x" * SIZE
    with kombu.Connection(ground.broker_url) as connection:
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(acked)
        producer = kombu.Producer(channel)
        began = time.perf_counter()
        for tag in range(1, JOBS + 1):
            while len(flying) >= WINDOW:
                connection.drain_events(timeout=PATIENCE)
            flying.add(tag)
            producer.publish(
                body,
                exchange=EXCHANGE,
                routing_key=KIND,
                mandatory=True,
                delivery_mode=2,
                content_type="application/json",
                content_encoding="utf-8",
                message_id=str(tag),
                type=KIND,
                headers={"x-outbox-version": 1, "x-outbox-attempt": 0},
            )
        while flying:
            connection.drain_events(timeout=PATIENCE)
        seconds = time.perf_counter() - began
    ground.clear()
    return JOBS / seconds


def _relay(ground: Ground, *, keys: int) -> float:
    """Let a relay, idle at first, publish what one transaction commits; from the commit to the last mark."""
    ready, done = threading.Event(), threading.Event()
    left = JOBS

    def observe(event: events.Event) -> None:
        nonlocal left
        if isinstance(event, events.BrokerConnected):
            ready.set()
        elif isinstance(event, events.BatchPublished):
            left -= event.confirmed
            if left <= 0:
                done.set()

    relay = Relay(
        Settings(database_url=ground.database_url, broker_url=ground.broker_url, window=WINDOW),
        observers=[observe],
    )
    thread = threading.Thread(target=relay.run, name="relay")
    thread.start()
    try:
        if not ready.wait(PATIENCE):
            raise TimeoutError("the relay reached no broker")
        ground.fill(JOBS, keys=keys)
        began = time.perf_counter()
        if not done.wait(PATIENCE):
            raise TimeoutError(f"{left} of {JOBS} jobs were not published within {PATIENCE:.0f} s")
        return JOBS / (time.perf_counter() - began)
    finally:
        relay.stop()
        thread.join()
        ground.clear()
