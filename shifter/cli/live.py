"""``shifter status --watch`` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shifter.cli.output import escape
from shifter.cli.status import (
    BUDGETS,
    CIRCUITS,
    LANES,
    WINDOWS,
    WORKERS,
    budget_cells,
    circuit_cells,
    lane_cells,
    window_cells,
    worker_cells,
)
from shifter.ops.status import Overview, StatusSources, read_overview

_NUMBERS = frozenset(
    {
        "waiting",
        "delayed",
        "running",
        "oldest",
        "rate",
        "eta",
        "pid",
        "slots",
        "dead letters",
    }
)


async def watch_live(sources: StatusSources, refresh_s: float) -> None:
    """Show the overview anew each time, until cancelled.

    Raises:
        StoreError: The log does not answer.
    """
    overview = await read_overview(sources)
    with Live(render(overview), console=Console(), auto_refresh=False) as live:
        while True:
            await sources.clock.sleep(refresh_s)
            live.update(render(await read_overview(sources)), refresh=True)


def render(overview: Overview) -> Group:
    """The overview as tables."""
    letters = [(row.queue, row.count) for row in overview.dead_letters]
    circuits = circuit_cells(overview.circuits)
    budgets = budget_cells(overview.budgets)
    windows = window_cells(overview.windows)
    return Group(
        _table(LANES, lane_cells(overview)),
        _table(("queue", "dead letters"), letters),
        *([_table(CIRCUITS, circuits)] if circuits else []),
        *([_table(BUDGETS, budgets)] if budgets else []),
        *([_table(WINDOWS, windows)] if windows else []),
        _table(WORKERS, worker_cells(overview)),
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for row in rows:
        # Text, not markup: a queue named [red] is a name.
        table.add_row(*(Text("-" if cell is None else escape(cell)) for cell in row))
    return table
