"""`make bench`: measures on private servers, prints figures, and exits 1 when one misses its target."""

from __future__ import annotations

import sys

import click
import ground
import memory
import throughput

from relay.sandbox import Unavailable


@click.command()
@click.argument("which", nargs=-1, type=click.Choice(["throughput", "memory"]))
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of throughput, in turn."
)
def main(which: tuple[str, ...], rounds: int) -> None:
    """Measure the named benchmarks, or all of them."""
    chosen = which or ("throughput", "memory")
    met = []
    with ground.prepared() as found:
        print(found.told)
        if "throughput" in chosen:
            met.append(throughput.measure(found, rounds))
        if "memory" in chosen:
            met.append(memory.measure(found))
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as reason:
        sys.exit(f"outbox: {reason}")
