"""Shows the torture while it runs: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from relay.torture import pulse
from relay.torture.report import FLAT, MUST_BE_ZERO, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay.torture.history import History
    from relay.torture.report import Outcome

LINE_EVERY: Final = 5.0
TOLD: Final = 10
SPARK: Final = 60


class Screen:
    """What a spectator sees.

    Args:
        aside: on standard error, because standard output is for a machine.
    """

    def __init__(self, *, aside: bool) -> None:
        self.console = Console(stderr=aside, highlight=False)
        self._story: list[tuple[float, str]] = []
        self._began = time.monotonic()
        self._lined_at = 0.0
        self._live: Live | None = None

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        self._story.append((time.monotonic() - self._began, what))
        if self._live is None:
            self.console.print(f"{self._story[-1][0]:6.1f} s  {what}", markup=False, soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a table in place meanwhile, on a terminal."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None
        for when, what in self._story:
            self.console.print(f"{when:6.1f} s  {what}", markup=False, soft_wrap=True)

    def show(self, history: History, restarts: int) -> None:
        """Show where it stands."""
        now = time.monotonic()
        account = history.account
        counts = {
            "committed": len(account.committed),
            "ambiguous": len(account.ambiguous),
            "rolled back": len(account.rolled_back),
            "delivered": len(history.seen),
            "on their way": len(account.ids - history.seen),
            "handler calls": history.runs,
            "processes started again": restarts,
        }
        if self._live is not None:
            self._live.update(self._picture(counts, history, now))
        elif not self.console.is_terminal and account.committed and now - self._lined_at > LINE_EVERY:
            self._lined_at = now
            told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
            self.console.print(f"{now - self._began:6.1f} s  {told}", markup=False, soft_wrap=True)

    def close(self, outcome: Outcome) -> None:
        """Show the end: the report, the faults, the verdict in words."""
        self.console.print(self._table(outcome), self._faults(outcome))
        for line in _lines(outcome):
            self.console.print(line, markup=False, soft_wrap=True)
        words = "every promise was kept" if outcome.kept else "A PROMISE WAS BROKEN"
        self.console.print(Text(words, style="bold green" if outcome.kept else "bold red"))

    def _picture(self, counts: dict[str, int], history: History, now: float) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, count in counts.items():
            table.add_row(name, Text(f"{count:,}", justify="right"))
        latest = [delivery.at for delivery in history.deliveries[-50 * SPARK * 10 :]]
        line = pulse.sparkline(pulse.rates(latest, now - SPARK, now, 1.0))
        told = [Text(f"{when:6.1f} s  {what}") for when, what in self._story[-TOLD:]]
        return Group(table, Text(f"│{line}│ messages a second, the last minute"), *told)

    def _table(self, outcome: Outcome) -> Table:
        table = Table(title="outbox torture", title_style="bold", pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        counts = outcome.counts()
        for name, meaning in ROWS:
            style = "" if name not in MUST_BE_ZERO else "bold red" if counts[name] else "bold green"
            table.add_row(name, Text(f"{counts[name]:,}", style=style), Text(meaning, style="dim"))
        return table

    def _faults(self, outcome: Outcome) -> Table:
        table = Table(pad_edge=False)
        table.add_column("fault")
        table.add_column("times", justify="right")
        table.add_column("longest silence", justify="right")
        for name, silences in sorted(outcome.silences().items()):
            table.add_row(name, str(len(silences)), f"{max(silences):.1f} s")
        return table


def _lines(outcome: Outcome) -> Iterator[str]:
    yield f"seed {outcome.seed}, {outcome.seconds:.0f} s of load and faults"
    until = "and not all was done" if outcome.unfinished else "until all was done"
    yield f"waited {outcome.waited:.1f} s {until}"
    yield f"{outcome.restarts} processes started again"
    for kind, change in outcome.growth().items():
        shown = [
            f"{took[kind].rss / 1024:.0f} MB, {took[kind].descriptors} descriptors at {100 * share:.0f} %"
            for share, took in sorted(outcome.vitals.items())
            if kind in took
        ]
        verdict = "flat" if abs(change) <= FLAT else f"{100 * change:+.0f} %"
        yield f"{kind}: {'; '.join(shown)}; memory {verdict}"
    yield from (f"{count} x {words}" for words, count in outcome.dropouts.items())
    yield f"on {'; '.join(outcome.servers)}"
