"""A state diagram as SVG: boxes at given places, numbered arrows between them.

The numbers are those of the table beside the picture. It is plain SVG, so that a page
shows it without JavaScript and without a request to another host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_RX, _RY = 62, 20
_BEND = 34
_STYLE = (
    "ellipse{fill:#fff;stroke:#333;stroke-width:1.5}"
    "path{fill:none;stroke:#333;stroke-width:1.2}"
    "text{font:13px sans-serif;text-anchor:middle;fill:#111}"
    ".n{font-size:11px;fill:#00539f;stroke:#fff;stroke-width:3;paint-order:stroke}"
)
_BACKGROUND = '<rect width="100%" height="100%" fill="#fff"/>'
_MARKER = (
    '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" '
    'style="fill:#333;stroke:none"/></marker>'
)


class Edge(NamedTuple):
    """One row of a table of transitions.

    Attributes:
        source: The state before.
        event: What happens.
        target: The state after; it may be the same.
        answer: The answer to the caller, if there is one.
    """

    source: str
    event: str
    target: str
    answer: str = ""


def table(edges: Sequence[Edge]) -> str:
    """The rows as Markdown, numbered from 1."""
    lines = ["| | state | event | next state | answer |", "|---|---|---|---|---|"]
    for number, (source, event, target, answer) in enumerate(edges, 1):
        after = "the same" if source == target else target
        lines.append(f"| {number} | {source} | {event} | {after} | {answer} |")
    return "\n".join(lines)


def svg(
    title: str, places: Mapping[str, tuple[int, int]], edges: Sequence[Edge]
) -> str:
    """The picture; transitions to the same state stand in the table alone."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for number, edge in enumerate(edges, 1):
        if edge.source != edge.target:
            numbers.setdefault((edge.source, edge.target), []).append(str(number))
    width = max(x for x, _ in places.values()) + _RX + 10
    height = max(y for _, y in places.values()) + _RY + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    parts = [head, _BACKGROUND, _MARKER]
    for (source, target), which in numbers.items():
        parts.append(_arrow(places[source], places[target], ", ".join(which)))
    for name, (x, y) in places.items():
        parts.append(f'<ellipse cx="{x}" cy="{y}" rx="{_RX}" ry="{_RY}"/>')
        parts.append(f'<text x="{x}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(start: tuple[int, int], end: tuple[int, int], label: str) -> str:
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1)
    bend_x, bend_y = -(y2 - y1) / length * _BEND, (x2 - x1) / length * _BEND
    mid_x, mid_y = (x1 + x2) / 2 + bend_x, (y1 + y2) / 2 + bend_y
    ax, ay = _border(start, (mid_x, mid_y))
    bx, by = _border(end, (mid_x, mid_y))
    label_x, label_y = (x1 + x2) / 2 + bend_x * 0.72, (y1 + y2) / 2 + bend_y * 0.72
    return (
        f'<path d="M{ax:.0f} {ay:.0f}Q{mid_x:.0f} {mid_y:.0f} {bx:.0f} {by:.0f}" '
        f'marker-end="url(#a)"/>\n'
        f'<text class="n" x="{label_x:.0f}" y="{label_y + 4:.0f}">{label}</text>'
    )


def _border(
    center: tuple[int, int], toward: tuple[float, float]
) -> tuple[float, float]:
    dx, dy = toward[0] - center[0], toward[1] - center[1]
    scale = 1 / math.hypot(dx / _RX, dy / _RY)
    return center[0] + dx * scale, center[1] + dy * scale
