"""What came of a torture: the judge's report, and what was done to whom. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from relay.torture import pulse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relay.theatre.judge import Report
    from relay.torture.tormentor import Infliction
    from relay.torture.vitals import Sample

FLAT: Final = 0.1
"""Memory that grew by less of itself is flat."""
AFTERWARDS: Final = 10.0
"""Seconds after its end in which a silence is laid at a fault's door, unless another fault came."""

ROWS: Final = (
    ("attempted", "jobs of all transactions"),
    ("committed", "jobs whose COMMIT was acknowledged"),
    ("ambiguous", "the connection, or the writer, ended during COMMIT"),
    ("rolled back", ""),
    ("delivered", "different jobs that arrived"),
    ("recovered", "ambiguous ones that arrived: they had been committed"),
    ("LOST", "committed, never delivered"),
    ("GHOSTS", "delivered, never committed"),
    ("duplicated", "messages too many, which say so"),
    ("not flagged", "jobs sent twice without saying so"),
    ("out of order", "keys whose jobs came in another order"),
    ("handler calls", "failures, repeats and all"),
    ("effects", "done and committed"),
    ("wrong effects", "jobs not done exactly once"),
    ("sent again", "jobs that the broker lost and the table brought back"),
    ("forgotten", "events that a broker of grade B lost: no promise"),
    ("unfinished", "jobs that the table still has to do"),
)
MUST_BE_ZERO: Final = {"LOST", "GHOSTS", "not flagged", "out of order", "wrong effects", "unfinished"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All of it.

    Args:
        report: of the judge.
        calls: of handlers.
        effects: that handlers committed.
        sent_again: jobs that were redelivered from the table.
        seed: of the faults.
        seconds: of load and faults.
        servers: where it happened.
        inflictions: what was inflicted.
        times: of the deliveries, ascending.
        began: of the load.
        waited: seconds after the load until all was done, or patience ended.
        unfinished: jobs that the table still has to do.
        vitals: by the share of the time.
        restarts: how often a process was started again.
        dropouts: processes that ended by themselves.
    """

    report: Report
    calls: int
    effects: int
    sent_again: int
    seed: int
    seconds: float
    servers: Sequence[str]
    inflictions: Sequence[Infliction]
    times: Sequence[float]
    began: float
    waited: float
    unfinished: int
    vitals: Mapping[float, Mapping[str, Sample]]
    restarts: int
    dropouts: Mapping[str, int]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept; one of them is that everything is done in the end."""
        return not (self.report.broken or self.unfinished)

    def counts(self) -> dict[str, int]:
        """Return the figures, as ``ROWS`` names them."""
        report = self.report
        values = (
            *(report.attempted, report.committed, report.ambiguous, report.rolled_back, report.delivered),
            *(report.recovered, len(report.lost), len(report.ghosts), report.duplicates.total()),
            *(len(report.unflagged), len(report.disordered), self.calls, self.effects),
            *(len(report.wrong_effects), self.sent_again, len(report.forgotten), self.unfinished),
        )
        return {name: value for (name, _), value in zip(ROWS, values, strict=True)}

    def silences(self) -> dict[str, list[float]]:
        """Return the longest silence on the wire after each infliction, by fault."""
        found: dict[str, list[float]] = defaultdict(list)
        for infliction, following in zip(self.inflictions, [*self.inflictions[1:], None], strict=True):
            end = (infliction.until or infliction.at) + AFTERWARDS
            together = following is not None and following.at < (infliction.until or infliction.at)
            if following is not None and not together:
                end = min(end, following.at)
            found[infliction.fault].append(pulse.silence(self.times, infliction.at, end))
        return dict(found)

    def growth(self) -> dict[str, float]:
        """Return by how much of itself the memory of each kind of process grew from the first look on."""
        shares = sorted(self.vitals)
        first, last = (self.vitals[shares[0]], self.vitals[shares[-1]]) if shares else ({}, {})
        return {kind: last[kind].rss / first[kind].rss - 1 for kind in first if kind in last}

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        names = {name.lower().replace(" ", "_"): count for name, count in self.counts().items()}
        return {
            "kept": self.kept,
            **names,
            "messages": self.report.messages,
            "repeated_by_the_broker": self.report.repeated,
            "seed": self.seed,
            "seconds": self.seconds,
            "waited": round(self.waited, 1),
            "servers": list(self.servers),
            "faults": {
                name: {"times": len(silences), "longest_silence": round(max(silences), 3)}
                for name, silences in self.silences().items()
            },
            "vitals": {
                str(share): {kind: asdict(sample) for kind, sample in kinds.items()}
                for share, kinds in self.vitals.items()
            },
            "restarts": self.restarts,
            "dropouts": dict(self.dropouts),
        }
