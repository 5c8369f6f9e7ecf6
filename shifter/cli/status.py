"""`shifter status`: lanes, dead letters, the fleet and workers, as rows of text.

The rows are the same for a terminal, a pipe and the live view.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.endpoint_table import ENDPOINTS, endpoint_cells
from shifter.cli.output import is_terminal, warn, write_json, write_line, write_table
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.fleet.cause_view import CauseRow
from shifter.fleet.view import (
    BudgetRow,
    CircuitRow,
    OverrideRow,
    QualityRow,
    WindowRow,
)
from shifter.ops.reading import Reader
from shifter.ops.status import Overview, open_sources, read_overview
from shifter.ops.texts import age_text, tier_text
from shifter.ops.worker_view import view_worker
from shifter.policy.failure_cause import FailureCause
from shifter.wire.untrusted import printable

LANES: Final = (
    *("queue", "priority", "waiting", "due", "delayed", "running", "oldest", "rate"),
    *("due work", "eta", "deadline"),
)
TIERS: Final = ("delay tier", "delayed", "next due in")
LETTERS: Final = ("queue", "dead letters")
WORKERS: Final = (
    *("worker", "host", "pid", "slots", "running", "state", "version"),
    *("slowest job", "last end"),
)
CIRCUITS: Final = (
    *("dependency", "circuit", "calls", "failed", "inflight", "limit", "held back"),
    *("seen", "by hand", "cause"),
)
BUDGETS: Final = (
    *("dependency", "ratio", "floor", "earned", "made", "left", "refused", "seen"),
)
WINDOWS: Final = ("hours of", "now", "windows", "opens in", "by hand")
_CAUSE_CHARS: Final = 80


def status(*, watch: bool = False, json: bool = False, session: InSession) -> None:
    """Show lanes, dead letters, circuits and workers of a namespace.

    Columns that need the state store stay empty while it is away.

    Example: shifter status --watch

    Args:
        watch: Show it again every second until Ctrl-C; less often where reading
            it takes long.
        json: Print one JSON object, with --watch one a line.
        session: This command line.
    """
    settings = session.settings()
    asyncio.run(_status(settings, watch=watch, as_json=json))


async def _status(settings: Settings, *, watch: bool, as_json: bool) -> None:
    need_log(settings)
    clock = SystemClock()
    if not watch:
        async with open_sources(settings, clock, warn) as sources:
            _print(await read_overview(sources), as_json=as_json)
        return
    reader = Reader(settings, clock)
    try:
        if as_json or not is_terminal(sys.stdout):
            await _repeat(reader, as_json=as_json)
        else:
            # Importing rich takes 80 ms, which the other ways of showing do not pay.
            from shifter.cli.live import watch_live  # noqa: PLC0415

            await watch_live(overviews(reader))
    finally:
        await reader.close()


async def _repeat(reader: Reader, *, as_json: bool) -> None:
    async for overview in overviews(reader):
        _print(overview, as_json=as_json)
        sys.stdout.flush()


async def overviews(reader: Reader) -> AsyncGenerator[Overview]:
    """Each overview that is read; what is missing of it is written as a warning.

    Raises:
        Exception: What made a reading fail.
    """
    async for reading in reader.readings():
        if reading.error is not None:
            raise reading.error
        for text in reading.notes:
            warn(text)
        if reading.overview is not None:
            yield reading.overview


def _print(overview: Overview, *, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.to_builtins(overview))
        return
    lanes, *others = tables(overview)
    write_table(*lanes, empty="no lanes: shifter topics apply")
    for headings, rows in others:
        if headings == WINDOWS:
            for text in _fleet_texts(overview):
                write_line()
                write_line(text)
        if rows:
            write_line()
            write_table(headings, rows, empty="")


def _fleet_texts(overview: Overview) -> list[str]:
    """The quality where it is reduced, and what services shed, a line each."""
    row, shed = overview.quality, overview.admission
    texts = [quality_text(row)] if row is not None and row.quality != "FULL" else []
    held = None if shed is None else _held_text(shed.shed, shed.would_shed)
    return texts if held is None else [*texts, f"shed: {held}"]


def tables(
    overview: Overview,
) -> list[tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    """The headings and rows of an overview, a table each, in the order of the view."""
    letters: list[tuple[object, ...]] = [
        (row.queue, row.count) for row in overview.dead_letters
    ]
    out = [row for row in overview.endpoints if row.by is not None]
    return [
        (LANES, _lane_cells(overview)),
        (TIERS, _tier_cells(overview)),
        (LETTERS, letters),
        (CIRCUITS, circuit_cells(overview.circuits)),
        (ENDPOINTS, endpoint_cells(out)),
        (BUDGETS, budget_cells(overview.budgets)),
        (WINDOWS, window_cells(overview.windows)),
        (WORKERS, _worker_cells(overview)),
    ]


def window_cells(rows: Sequence[WindowRow]) -> list[tuple[object, ...]]:
    """Execution windows as rows of text, in the order of the headings."""
    return [
        (
            row.scope,
            "open" if row.is_open else "closed",
            ", ".join(row.windows) or None,
            age_text(row.opens_s),
            _by_hand_text(row.by_hand),
        )
        for row in rows
    ]


def _by_hand_text(by_hand: OverrideRow | None) -> str | None:
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
            _by_hand_text(row.by_hand),
            _cause_text(row.cause),
        )
        for row in rows
    ]


def _cause_text(cause: CauseRow | None) -> str | None:
    if cause is None:
        return None
    text = FailureCause(cause.kind, cause.count, cause.message).text
    return printable(text, _CAUSE_CHARS)


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


def _lane_cells(overview: Overview) -> list[tuple[object, ...]]:
    return [
        (
            lane.queue,
            lane.priority,
            lane.waiting,
            lane.due,
            lane.delayed,
            lane.running,
            age_text(lane.oldest_age_s),
            None if lane.rate_per_s is None else f"{lane.rate_per_s:.1f}/s",
            age_text(lane.due_backlog_s),
            age_text(lane.eta_s),
            age_text(lane.tightest_deadline_s),
        )
        for lane in overview.lanes
    ]


def _tier_cells(overview: Overview) -> list[tuple[object, ...]]:
    return [
        (tier_text(row.tier_s), row.delayed, age_text(row.next_due_s))
        for row in overview.delay_tiers or ()
    ]


def _worker_cells(overview: Overview) -> list[tuple[object, ...]]:
    views = [view_worker(row, overview.as_of_ms) for row in overview.workers]
    return [
        (
            view.report.worker_id,
            view.report.host,
            view.report.pid,
            view.report.concurrency,
            view.busy,
            "draining" if view.report.is_draining else None,
            view.version,
            view.slowest,
            view.progress,
        )
        for view in views
    ]
