"""Draws a run as one SVG file that needs nothing else: no library, no font, no network.

One row a priority. Left: offered and executed a second. Right: how many waited. Dotted
lines mark what was done to the run. Each panel has a scale of its own, with its largest
value written at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from shifter.demo.outcome import Outcome
from shifter.model.lane import Priority

_WIDTH: Final = 960
_PANEL_WIDTH: Final = 400
_PANEL_HEIGHT: Final = 96
_LEFTS: Final = (70, 520)
_MOST_EVENTS: Final = 30
_TOP: Final = 84
_STEP: Final = 136
_OFFERED: Final = "#9aa5b1"
_SVG: Final = "http://www.w3.org/2000/svg"
_FAINT: Final = 'fill-opacity="0.3"'
_AXIS: Final = 'fill="none" stroke="#444444"'
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="12"'
_CREDIT: Final = (
    "Data: Azure Public Dataset, CC BY 4.0 (Patel et al., Splitwise, ISCA 2024)"
)
_COLOURS: Final = {
    Priority.CRITICAL: "#c62828",
    Priority.HIGH: "#ef6c00",
    Priority.NORMAL: "#1565c0",
    Priority.LOW: "#2e7d32",
}

Points = Sequence[tuple[float, float]]


class _Panel(NamedTuple):
    """The area of the picture that one curve is drawn in.

    Attributes:
        left: Pixels.
        top: Pixels.
        length_s: Seconds across.
        most: Value at the top, > 0.
    """

    left: int
    top: int
    length_s: float
    most: float

    def place(self, points: Points) -> str:
        """Points as SVG coordinates."""
        return " ".join(f"{self.x(s):.1f},{self.y(value):.1f}" for s, value in points)

    def x(self, second: float) -> float:
        return self.left + _PANEL_WIDTH * min(1.0, second / self.length_s)

    def y(self, value: float) -> float:
        return self.top + _PANEL_HEIGHT * (1 - min(1.0, value / self.most))


def draw(outcome: Outcome) -> str:
    """The picture as the text of an SVG file."""
    seconds = max(1, int(outcome.tally.played_s + outcome.tally.drained_s) + 1)
    events = [event for event in outcome.tally.events if event[0] > 0][:_MOST_EVENTS]
    bottom = _TOP + _STEP * len(Priority) + 16
    height = bottom + 16 * len(events)
    parts = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_heading(outcome),
    ]
    for number, priority in enumerate(Priority):
        top = _TOP + _STEP * number
        parts += _rates(outcome, priority, top, seconds)
        parts += _waiting(outcome, priority, top, seconds)
    for number, (at_s, event) in enumerate(events):
        parts.append(_text(_LEFTS[0], bottom + 16 * number, f"{at_s:.1f} s: {event}"))
    return "\n".join([*parts, "</svg>", ""])


def _heading(outcome: Outcome) -> list[str]:
    numbers = outcome.as_json()
    words = ("accepted", "executed", "dead", "waiting", "lost", "duplicates")
    text = ", ".join(f"{numbers[word]} {word}" for word in words)
    first = (
        f"shifter demo: two inference services at {outcome.speed:g} times their speed, "
        f"a backend of {outcome.slots} slots"
    )
    return [
        _text(_LEFTS[0], 26, first, size=16),
        _text(_LEFTS[0], 46, text),
        _text(_LEFTS[0], 64, _CREDIT, colour="#666666"),
    ]


def _rates(outcome: Outcome, priority: Priority, top: int, seconds: int) -> list[str]:
    offered = outcome.tally.offered_per_s(priority, seconds)
    executed = outcome.tally.executed_per_s(priority, seconds)
    panel = _Panel(_LEFTS[0], top + 18, seconds, max(1, *offered, *executed))
    return [
        *_axes(panel, f"{priority.value}: offered (grey) and executed a second"),
        *_marks(panel, outcome),
        _line(panel, _steps(offered), _OFFERED),
        _line(panel, _steps(executed), _COLOURS[priority]),
    ]


def _waiting(outcome: Outcome, priority: Priority, top: int, seconds: int) -> list[str]:
    points = [(s, waiting.get(priority, 0)) for s, waiting in outcome.tally.waiting]
    points = [(0.0, 0), *points]
    most = max(1, *(value for _, value in points))
    panel = _Panel(_LEFTS[1], top + 18, seconds, most)
    area = [(0.0, 0), *points, (points[-1][0], 0)]
    return [
        *_axes(panel, f"{priority.value}: waiting"),
        *_marks(panel, outcome),
        f'<polygon points="{panel.place(area)}" fill="{_COLOURS[priority]}" {_FAINT}/>',
        _line(panel, points, _COLOURS[priority]),
    ]


def _axes(panel: _Panel, title: str) -> list[str]:
    bottom, right = panel.top + _PANEL_HEIGHT, panel.left + _PANEL_WIDTH
    return [
        _text(panel.left, panel.top - 6, title),
        f'<path d="M{panel.left} {panel.top}V{bottom}H{right}" {_AXIS}/>',
        _text(panel.left - 6, panel.top + 10, f"{panel.most:g}", anchor="end"),
        _text(panel.left - 6, bottom, "0", anchor="end"),
        _text(right, bottom + 14, f"{panel.length_s:g} s", anchor="end"),
    ]


def _marks(panel: _Panel, outcome: Outcome) -> list[str]:
    bottom = panel.top + _PANEL_HEIGHT
    return [
        f'<path d="M{panel.x(at_s):.1f} {panel.top}V{bottom}" stroke="#888888" '
        f'stroke-dasharray="2 3"><title>{escape(event)}</title></path>'
        for at_s, event in outcome.tally.events
        if at_s > 0
    ]


def _steps(per_s: Sequence[int]) -> Points:
    # A rate belongs to the whole of its second.
    return [
        (second + edge, value) for second, value in enumerate(per_s) for edge in (0, 1)
    ]


def _line(panel: _Panel, points: Points, colour: str) -> str:
    return (
        f'<polyline points="{panel.place(points)}" fill="none" stroke="{colour}" '
        'stroke-width="1.5"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    colour: str = "#222222",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
