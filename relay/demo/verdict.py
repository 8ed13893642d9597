"""Counts what happened from what the application, the wire and the handlers left outside our tables. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.theatre import judge as theatre
from relay.theatre import wiretap
from relay.theatre.journal import Lines, entries

if TYPE_CHECKING:
    from collections.abc import Iterable
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
    order = {number: job for job, _, number, *_ in committed}
    account = theatre.Account(
        committed=[theatre.Written(job, key) for job, key, *_ in committed],
        rolled_back={job for job, *_ in entries(folder / "rolled_back")},
    )
    handled = {job for file in folder.glob("handled-*") for job, *_ in entries(file)}
    effects = Counter(order.get(str(number), f"order {number}") for number in receipts)
    report = theatre.judge(
        account, list(wiretap.deliveries(Lines(folder / "delivered"))), handled=handled, effects=effects
    )
    return Verdict(
        committed=report.committed,
        rolled_back=report.rolled_back,
        delivered=report.delivered,
        duplicates=report.duplicates.total() + report.repeated,
        lost=len(report.lost),
        ghosts=len(report.ghosts),
        out_of_order=len(report.disordered),
        effects=effects.total(),
        wrong_effects=len(report.wrong_effects),
    )
