"""Counts what happened from what the application, the wire and the handlers left outside our tables. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Verdict:
    """The promise, in figures. ``kept`` is the whole of it."""

    committed: int
    rolled_back: int
    delivered: int
    duplicates: int
    lost: int
    ghosts: int
    out_of_order: int
    effects: int
    wrong_effects: int

    @property
    def kept(self) -> bool:
        """Whether nothing was lost, invented, reordered, or done other than once."""
        return not (self.lost or self.ghosts or self.out_of_order or self.wrong_effects)


def judge(folder: Path, receipts: Iterable[int]) -> Verdict:
    """Return the verdict on what ``folder`` holds and on the shop's receipts (an order's number each)."""
    committed = entries(folder / "committed")
    rolled_back = entries(folder / "rolled_back")
    messages = Counter(entry[0] for entry in entries(folder / "delivered"))
    handled = {entry[0] for file in folder.glob("handled-*") for entry in entries(file)}
    seen = (
        messages.keys() | handled
    )  # a broker of grade B may lose the wiretap's copy, which nobody sends again
    effects = Counter(receipts)
    orders = {int(entry[2]) for entry in committed}
    jobs = {entry[0] for entry in committed}
    return Verdict(
        committed=len(committed),
        rolled_back=len(rolled_back),
        delivered=len(seen),
        duplicates=messages.total() - len(messages),
        lost=len(jobs - seen),
        ghosts=len(seen - jobs),
        out_of_order=out_of_order(committed, entries(folder / "delivered")),
        effects=effects.total(),
        wrong_effects=sum(effects[order] != (order in orders) for order in orders | effects.keys()),
    )


def entries(file: Path) -> list[list[str]]:
    """Return a journal's complete lines, in words; a line that is being written does not count yet."""
    text = file.read_text() if file.exists() else ""
    return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def out_of_order(committed: Sequence[Sequence[str]], delivered: Sequence[Sequence[str]]) -> int:
    """Return how many first deliveries came after a later one of the same key."""
    turn = {entry[0]: number for number, entry in enumerate(committed)}
    latest: dict[str, int] = defaultdict(lambda: -1)
    seen: set[str] = set()
    wrong = 0
    for job, key, *_ in delivered:
        if job in seen or job not in turn:
            continue
        seen.add(job)
        wrong += turn[job] < latest[key]
        latest[key] = max(latest[key], turn[job])
    return wrong
