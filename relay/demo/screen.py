"""Shows the demo while it runs: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relay.demo.verdict import Verdict

LINE_EVERY: Final = 3.0
ROWS: Final = (
    ("committed", "orders that the shop committed"),
    ("rolled_back", "orders that it rolled back after adding their job"),
    ("delivered", "jobs seen on the wire"),
    ("duplicates", "sent or delivered again after a fault"),
    ("lost", "committed, never delivered"),
    ("ghosts", "delivered, never committed"),
    ("out_of_order", "customers whose jobs came in another order"),
    ("effects", "receipts written"),
    ("wrong_effects", "orders with no receipt, or with two"),
)
GOOD: Final = {"lost", "ghosts", "out_of_order", "wrong_effects"}


class Screen:
    """What a spectator sees."""

    def __init__(self) -> None:
        self.console = Console(record=True)
        self._story: list[tuple[float, str]] = []
        self._began = time.monotonic()
        self._lined_at = 0.0
        self._live: Live | None = None

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        self._story.append((time.monotonic() - self._began, what))
        if self._live is None:
            self.console.print(f"{self._story[-1][0]:5.1f} s  {what}", highlight=False)

    @contextmanager
    def live(self) -> Iterator[Callable[[Verdict], None]]:
        """Yield what shows the count so far; on a terminal the table stays in place."""
        if not self.console.is_terminal:
            yield self._line
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as self._live:
            yield self._update
        self._live = None
        for when, what in self._story:
            self.console.print(f"{when:5.1f} s  {what}", highlight=False)

    def close(self, verdict: Verdict, servers: list[str]) -> None:
        """Show the end: the table, the servers, the verdict in words."""
        self.console.print(self._table(verdict, final=True))
        for server in servers:
            self.console.print(f"on {server}", highlight=False)
        words = "every promise was kept" if verdict.kept else "A PROMISE WAS BROKEN"
        self.console.print(Text(words, style="bold green" if verdict.kept else "bold red"))

    def _update(self, verdict: Verdict) -> None:
        if self._live is not None:
            told = [Text(f"{when:5.1f} s  {what}") for when, what in self._story[-12:]]
            self._live.update(Group(self._table(verdict, final=False), *told))

    def _line(self, verdict: Verdict) -> None:
        if time.monotonic() - self._lined_at > LINE_EVERY:
            self._lined_at = time.monotonic()
            counts = f"{verdict.committed} orders, {verdict.delivered} delivered, {verdict.effects} receipts"
            self.console.print(f"{self._lined_at - self._began:5.1f} s  {counts}", highlight=False)

    def _table(self, verdict: Verdict, *, final: bool) -> Table:
        table = Table(title="outbox-relay", title_style="bold", pad_edge=False, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        for name, meaning in ROWS:
            count = getattr(verdict, name)
            # While it runs, what is on its way is not lost.
            judged = name in GOOD and final
            style = "" if not judged else "bold green" if count == 0 else "bold red"
            shown = "…" if name in GOOD and not final and count else f"{count:,}"
            table.add_row(name.replace("_", " "), Text(shown, style=style), Text(meaning, style="dim"))
        return table
