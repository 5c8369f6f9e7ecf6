"""`shifter status`: lanes, dead letters, the fleet and workers, as rows of text.

The rows are the same for a terminal, a pipe and the live view.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.output import (
    age_text,
    is_terminal,
    warn,
    write_json,
    write_line,
    write_table,
)
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.fleet.view import (
    AdmissionRow,
    BudgetRow,
    CircuitRow,
    OverrideRow,
    QualityRow,
    WindowRow,
)
from shifter.ops.status import Overview, StatusSources, open_sources, read_overview

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
_REFRESH_S = 1.0


def status(*, watch: bool = False, json: bool = False, session: InSession) -> None:
    """Show lanes, dead letters, circuits and workers of a namespace.

    Columns that need the state store stay empty while it is away.

    Example: shifter status --watch

    Args:
        watch: Show it again every second until Ctrl-C.
        json: Print one JSON object, with --watch one a line.
        session: This command line.
    """
    settings = session.settings()
    asyncio.run(_status(settings, watch=watch, as_json=json))


async def _status(settings: Settings, *, watch: bool, as_json: bool) -> None:
    async with open_sources(need_log(settings), SystemClock(), warn) as sources:
        if not watch:
            _print(await read_overview(sources), as_json=as_json)
        elif as_json or not is_terminal(sys.stdout):
            await _repeat(sources, as_json=as_json)
        else:
            from shifter.cli.live import watch_live  # noqa: PLC0415  # rich: 80 ms

            await watch_live(sources, _REFRESH_S)


async def _repeat(sources: StatusSources, *, as_json: bool) -> None:
    while True:
        _print(await read_overview(sources), as_json=as_json)
        sys.stdout.flush()
        await sources.clock.sleep(_REFRESH_S)


def _print(overview: Overview, *, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.to_builtins(overview))
        return
    write_table(LANES, lane_cells(overview), empty="no lanes: shifter topics apply")
    letters = [(row.queue, row.count) for row in overview.dead_letters]
    _print_table(("queue", "dead letters"), letters)
    _print_table(CIRCUITS, circuit_cells(overview.circuits))
    _print_table(BUDGETS, budget_cells(overview.budgets))
    if overview.quality is not None and overview.quality.quality != "FULL":
        write_line()
        write_line(quality_text(overview.quality))
    shed = None if overview.admission is None else shed_text(overview.admission)
    if shed is not None:
        write_line()
        write_line(shed)
    _print_table(WINDOWS, window_cells(overview.windows))
    _print_table(WORKERS, worker_cells(overview))


def _print_table(headings: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    """A table behind an empty line, if it has any rows."""
    if rows:
        write_line()
        write_table(headings, rows, empty="")


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
