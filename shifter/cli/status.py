"""``shifter status``: what waits, how long, and how fast it goes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.columns import (
    BUDGETS,
    CIRCUITS,
    LANES,
    WINDOWS,
    WORKERS,
    budget_cells,
    circuit_cells,
    lane_cells,
    quality_text,
    shed_text,
    window_cells,
    worker_cells,
)
from shifter.cli.output import is_terminal, warn, write_json, write_line, write_table
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.ops.status import Overview, StatusSources, open_sources, read_overview

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
