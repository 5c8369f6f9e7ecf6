"""A picture of a run: what broke when, and what got done meanwhile."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.torture.harness.evidence import Evidence
from tests.torture.harness.violation import Violation

_WIDTH: Final = 1_100
_LANE: Final = 16
_RATE: Final = 120
_MOST_STORIES: Final = 20
_STYLE: Final = """
body { font: 14px system-ui, sans-serif; margin: 24px; color: #1c2733 }
svg { background: #f6f8fa; border-radius: 6px } text { font-size: 10px; fill: #57606a }
.fault { fill: #d1242f; opacity: .75 } .rate { fill: none; stroke: #1a7f37 }
.asked { fill: none; stroke: #0969da } pre { background: #f6f8fa; padding: 8px }
.good { color: #1a7f37 } .bad { color: #d1242f }
"""


def write_timeline(
    path: Path, name: str, ev: Evidence, violations: Sequence[Violation]
) -> None:
    """Write one HTML page that needs nothing else."""
    good = not violations
    headline = "all checkers hold" if good else f"{len(violations)} violations"
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{name}</title>",
        f"<style>{_STYLE}</style><h1>{name}: {html.escape(ev.scenario.title)}</h1>",
        f"<p class={'good' if good else 'bad'}>{headline}</p>",
        f"<p>{len(ev.accepted)} accepted, of them {dict(ev.counts)}</p>",
        _picture(ev),
        "<p>green: effects per second · blue: jobs accepted per second · red: faults</p>",
        *(_story(ev, violation) for violation in violations[:_MOST_STORIES]),
    ]
    path.write_text("\n".join(parts))


def _picture(ev: Evidence) -> str:
    since = ev.events[0].t
    until = max(e.t for e in ev.by["phase"])
    scale = _WIDTH / max(1.0, until - since)
    lines = [_curve(ev, f, since, until, scale) for f in ("effect", "accept")]
    faults, rows = _faults(ev, since, scale)
    height = _RATE + 24 + rows * _LANE
    marks = [
        f'<text x="{(e.t - since) * scale:.0f}" y="{_RATE + 14}">'
        f"{html.escape(e.kind)}</text>"
        for e in ev.by["phase"]
        if e.proc == "conductor"
    ]
    body = "".join([*lines, *marks, *faults])
    return f'<svg width="{_WIDTH}" height="{height}">{body}</svg>'


def _curve(ev: Evidence, f: str, since: float, until: float, scale: float) -> str:
    counts = [0] * (int(until - since) + 2)
    for event in ev.by[f]:
        if event.outcome == "ok" and event.t < until:
            counts[int(event.t - since)] += 1
    most = max(1, *counts)
    points = " ".join(
        f"{(second + 0.5) * scale:.1f},{_RATE - count / most * (_RATE - 8):.1f}"
        for second, count in enumerate(counts)
    )
    css = "rate" if f == "effect" else "asked"
    return f'<polyline class="{css}" points="{points}"/>'


def _faults(ev: Evidence, since: float, scale: float) -> tuple[list[str], int]:
    kinds = sorted({event.kind for event in ev.by["fault"]})
    heals = ev.by["heal"]
    shapes: list[str] = []
    for row, kind in enumerate(kinds):
        y = _RATE + 24 + row * _LANE
        shapes.append(f'<text x="2" y="{y + 11}">{html.escape(kind)}</text>')
        for event in ev.by["fault"]:
            if event.kind != kind:
                continue
            ends = [h.t for h in heals if h.kind == kind and h.t >= event.t]
            width = max(2.0, (min(ends, default=event.t) - event.t) * scale)
            x = (event.t - since) * scale
            shapes.append(
                f'<rect class="fault" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                f'height="{_LANE - 4}"/>'
            )
    return shapes, len(kinds)


def _story(ev: Evidence, violation: Violation) -> str:
    head = html.escape(f"{violation.checker}: {violation.text} {violation.job}")
    lines = html.escape("\n".join(story(ev, violation)))
    return f"<h3 class=bad>{head}</h3><pre>{lines}</pre>"


def story(ev: Evidence, violation: Violation) -> list[str]:
    """The least that shows a violation: all that happened to its job, in order."""
    if not violation.job:
        return []
    events = ev.around(violation.job)
    began = events[0].t if events else 0.0
    return [
        f"{event.t - began:9.3f} s {event.proc[:12]:12} {event.f:7} {event.outcome:6} "
        f"{event.kind} attempt {event.attempt} fence {event.fence} {event.reason}"
        for event in events
    ]
