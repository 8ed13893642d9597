"""`make bench`: measures on private servers, prints figures, and exits 1 when one misses its target."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import adding
import click
import ground
import memory
import throughput

from relay.sandbox import Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection


@click.command()
@click.argument("which", nargs=-1, type=click.Choice(["adding", "throughput", "memory"]))
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of throughput, in turn."
)
def main(which: tuple[str, ...], rounds: int) -> None:
    """Measure the named benchmarks, or all of them."""
    chosen = set(which) or {"adding", "throughput", "memory"}
    met = [adding.measure()] if "adding" in chosen else []
    if chosen - {"adding"}:
        met += _with_servers(chosen, rounds)
    sys.exit(0 if all(met) else 1)


def _with_servers(chosen: Collection[str], rounds: int) -> list[bool]:
    """Measure what needs a database and a broker; return whether each met its target."""
    met = []
    with ground.prepared() as found:
        print(found.told)
        if "throughput" in chosen:
            met.append(throughput.measure(found, rounds))
        if "memory" in chosen:
            met.append(memory.measure(found))
    return met


if __name__ == "__main__":
    try:
        main()
    except Unavailable as reason:
        sys.exit(f"outbox: {reason}")
