"""An overview as rows of text, the same for a terminal, a pipe and the live view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from shifter.fleet.view import (
    AdmissionRow,
    BudgetRow,
    CircuitRow,
    OverrideRow,
    QualityRow,
    WindowRow,
)
from shifter.ops.status import Overview

LANES: Final = (
    *("queue", "priority", "waiting", "delayed", "running", "oldest", "rate", "eta"),
)
WORKERS: Final = ("worker", "host", "pid", "slots", "running")
CIRCUITS: Final = (
    *("dependency", "circuit", "calls", "failed", "inflight", "limit", "held back"),
    *("seen", "by hand"),
)
BUDGETS: Final = (
    *("dependency", "ratio", "floor", "earned", "made", "left", "refused", "seen"),
)
WINDOWS: Final = ("hours of", "now", "windows", "opens in", "by hand")


def window_cells(rows: Sequence[WindowRow]) -> list[tuple[object, ...]]:
    """Execution windows as rows of text, in the order of the headings."""
    return [
        (
            row.scope,
            "open" if row.is_open else "closed",
            ", ".join(row.windows) or None,
            age_text(row.opens_s),
            by_hand_text(row.by_hand),
        )
        for row in rows
    ]


def by_hand_text(by_hand: OverrideRow | None) -> str | None:
    """The owner, the remaining time and the reason of an override."""
    if by_hand is None:
        return None
    return f"{by_hand.owner}, {age_text(by_hand.left_s)} more: {by_hand.reason}"


def circuit_cells(rows: Sequence[CircuitRow]) -> list[tuple[object, ...]]:
    """Dependencies as rows of text, in the order of the headings."""
    return [
        (
            row.dependency,
            _circuit_text(row),
            row.calls,
            row.failures,
            None if row.limit is None else row.inflight,
            row.limit,
            _held_text(row.held_back, row.would_hold_back),
            _seen_text(row.age_s),
            by_hand_text(row.by_hand),
        )
        for row in rows
    ]


def _circuit_text(row: CircuitRow) -> str:
    if row.by_hand is not None:
        return f"{row.by_hand.to} by hand"
    if row.reopens_s is not None:
        return f"open, {age_text(row.reopens_s)} more"
    return f"half-open, {row.probes} probes" if row.state == "half_open" else row.state


def _held_text(done: Mapping[str, int], dark: Mapping[str, int]) -> str | None:
    held = [f"{by} {count}" for by, count in done.items()]
    would = [f"({by} {count} in the dark)" for by, count in dark.items()]
    return ", ".join(held + would) or None


def _seen_text(age_s: float | None) -> str | None:
    return None if age_s is None else f"{age_s:.1f}s ago"


def budget_cells(rows: Sequence[BudgetRow]) -> list[tuple[object, ...]]:
    """Retry budgets as rows of text, in the order of the headings."""
    return [
        (
            row.dependency,
            f"{row.ratio:g}",
            f"{row.floor_per_s}/s",
            f"{row.earned:.1f}",
            f"{row.made:.0f}",
            f"{row.left:.1f}",
            f"{row.refused} ({row.would_refuse} in the dark)"
            if row.would_refuse
            else row.refused,
            _seen_text(row.age_s),
        )
        for row in rows
    ]


def quality_text(row: QualityRow) -> str:
    """The quality of the fleet, as one line."""
    load = "no process" if row.load is None else f"load {row.load:.2f}"
    text = f"{row.quality}: {load}, {row.processes} processes"
    if row.by_hand is None:
        return text
    by = row.by_hand
    return f"{text}; by hand of {by.owner} for {by.left_s:.0f} s more: {by.reason}"


def shed_text(row: AdmissionRow) -> str | None:
    """What services shed, as one line; ``None`` where they shed nothing."""
    found = _held_text(row.shed, row.would_shed)
    return None if found is None else f"shed: {found}"


def lane_cells(overview: Overview) -> list[tuple[object, ...]]:
    """Lanes as rows of text, in the order of the headings."""
    return [
        (
            lane.queue,
            lane.priority,
            lane.waiting,
            lane.delayed,
            lane.running,
            age_text(lane.oldest_age_s),
            None if lane.rate_per_s is None else f"{lane.rate_per_s:.1f}/s",
            age_text(lane.eta_s),
        )
        for lane in overview.lanes
    ]


def worker_cells(overview: Overview) -> list[tuple[object, ...]]:
    """Workers as rows of text, in the order of the headings."""
    return [
        (
            worker.worker_id,
            worker.host,
            worker.pid,
            worker.concurrency,
            sum(worker.running.values()),
        )
        for worker in overview.workers
    ]


def age_text(seconds: float | None) -> str | None:
    """A duration as text, in its two largest units.

    >>> age_text(3.21), age_text(61.0), age_text(90_061.0), age_text(None)
    ('3.2s', '1m1s', '1d1h', None)
    """
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"


def instant_text(epoch_ms: int) -> str:
    """An instant as text, in UTC.

    >>> instant_text(0), instant_text(10**18)
    ('1970-01-01T00:00:00Z', '1000000000000000000 ms')
    """
    try:
        instant = datetime.fromtimestamp(epoch_ms / 1_000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return f"{epoch_ms} ms"
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
