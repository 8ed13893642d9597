"""Draws throughput over time with the faults marked, as an SVG that reads well on light and on dark. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from relay.torture import pulse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relay.torture.report import Outcome
    from relay.torture.tormentor import Infliction

WIDTH: Final = 960
LEFT, RIGHT, TOP = 160, 12, 56
PLOT: Final = 200
LANE: Final = 13
STEPS: Final = 240
"""The most of them that the time is divided into."""
LEAST_BAR: Final = 3.0
BOTTOM: Final = 30
NICE: Final = (1, 2, 2.5, 5)
TICKS: Final = 5

STYLE: Final = """
svg { font: 11px system-ui, sans-serif; background: #fff }
text { fill: #444 } .title { font-size: 15px; font-weight: 600; fill: #111 }
.grid { stroke: #888; stroke-opacity: .25 } .rate { fill: #2a7ab8; fill-opacity: .3; stroke: #2a7ab8 }
.fault { fill: #d1495b } .shade { fill: #d1495b; fill-opacity: .1 }
.end { stroke: #888; stroke-dasharray: 4 3 } .kept { fill: #22863a } .broken { fill: #cb2431 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } text { fill: #b6bec8 } .title { fill: #f0f3f6 }
.rate { stroke: #6cb6ff; fill: #6cb6ff }
.fault { fill: #ff7b86 } .shade { fill: #ff7b86 } .kept { fill: #57d364 } .broken { fill: #ff7b72 }
}
"""


class Scale(NamedTuple):
    """From moments and rates to places."""

    began: float
    seconds: float
    most: float

    def x(self, moment: float) -> float:
        """Return where a moment is."""
        share = min(1.0, max(0.0, (moment - self.began) / self.seconds))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, rate: float) -> float:
        """Return where a rate is."""
        return TOP + PLOT * (1 - rate / self.most)


def draw(outcome: Outcome) -> str:
    """Return the picture of a torture."""
    ended = outcome.began + outcome.seconds + outcome.waited
    ended = max([ended, *outcome.times[-1:], *(each.until or each.at for each in outcome.inflictions)])
    seconds = max(1.0, ended - outcome.began)
    step = max(0.5, seconds / STEPS)
    rates = pulse.rates(outcome.times, outcome.began, ended, step)
    scale = Scale(outcome.began, seconds, _ceiling(max(rates, default=0.0)))
    names = sorted({each.fault for each in outcome.inflictions})
    height = TOP + PLOT + BOTTOM + LANE * len(names) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{STYLE}</style>",
        *_words(outcome),
        *_shades(outcome.inflictions, scale),
        *_grid(scale),
        _curve(rates, step, scale),
        *_end(outcome, scale),
        *_lanes(outcome.inflictions, names, scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _words(outcome: Outcome) -> Iterator[str]:
    counts = outcome.counts()
    told = ", ".join(
        f"{name.lower()} {counts[name]:,}"
        for name in ("committed", "ambiguous", "delivered", "LOST", "GHOSTS", "duplicated", "wrong effects")
    )
    verdict = "every promise was kept" if outcome.kept else "a promise was broken"
    style = "kept" if outcome.kept else "broken"
    yield f'<text class="title" x="{LEFT}" y="20">outbox torture, messages a second</text>'
    yield f'<text class="title {style}" x="{WIDTH - RIGHT}" y="20" text-anchor="end">{verdict}</text>'
    yield f'<text x="{LEFT}" y="38">{escape(told)}; seed {outcome.seed}</text>'


def _shades(inflictions: Sequence[Infliction], scale: Scale) -> Iterator[str]:
    for each in inflictions:
        left, width = _bar(each, scale)
        yield f'<rect class="shade" x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{PLOT}"/>'


def _grid(scale: Scale) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        y = scale.y(share * scale.most)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * scale.most:g}</text>'
    every = _ceiling(scale.seconds / TICKS)
    for number in range(int(scale.seconds / every) + 1):
        x, y = scale.x(scale.began + number * every), TOP + PLOT
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>'
        yield f'<text x="{x:.1f}" y="{y + 16}" text-anchor="middle">{number * every:g} s</text>'


def _curve(rates: Sequence[float], step: float, scale: Scale) -> str:
    points = [
        f"{scale.x(scale.began + place * step):.1f},{scale.y(rate):.1f}"
        for number, rate in enumerate(rates)
        for place in (number, number + 1)
    ]
    floor = scale.y(0)
    right = scale.x(scale.began + len(rates) * step)
    return f'<polygon class="rate" points="{LEFT},{floor:.1f} {" ".join(points)} {right:.1f},{floor:.1f}"/>'


def _end(outcome: Outcome, scale: Scale) -> Iterator[str]:
    x = scale.x(outcome.began + outcome.seconds)
    yield f'<line class="end" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + PLOT}"/>'
    yield f'<text x="{x - 4:.1f}" y="{TOP + 11}" text-anchor="end">load ends</text>'


def _lanes(inflictions: Sequence[Infliction], names: Sequence[str], scale: Scale) -> Iterator[str]:
    """A line for each fault, below the plot: its name, and its marks."""
    for lane, name in enumerate(names):
        y = TOP + PLOT + BOTTOM + LANE * lane
        yield f'<text x="{LEFT - 8}" y="{y + 8}" text-anchor="end">{escape(name)}</text>'
        for left, width in (_bar(each, scale) for each in inflictions if each.fault == name):
            size = f'width="{width:.1f}" height="{LANE - 4}" rx="2"'
            yield f'<rect class="fault" x="{left:.1f}" y="{y}" {size}/>'


def _bar(infliction: Infliction, scale: Scale) -> tuple[float, float]:
    left = scale.x(infliction.at)
    return left, max(LEAST_BAR, scale.x(infliction.until or infliction.at) - left)


def _ceiling(value: float) -> float:
    """Return the next round number."""
    size = 1.0
    while value > 0 and size * NICE[-1] * 2 < value:
        size *= 10
    return next((size * nice for nice in (*NICE, 10) if size * nice >= value), size * 10)
