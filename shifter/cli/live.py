"""`shifter status --watch` on a terminal: the overview, drawn again and again.

The module is imported for a terminal alone, since importing rich takes 80 ms.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shifter.cli.output import escape
from shifter.cli.status import LANES, LETTERS, WORKERS, tables
from shifter.ops.status import Overview

# Columns that are compared down the table, so their digits stand below one another.
_NUMBERS: Final = frozenset((*LANES[2:], *WORKERS[2:5], *LETTERS[1:]))


async def watch_live(overviews: AsyncIterator[Overview]) -> None:
    """Show each overview in the place of the one before."""
    with contextlib.ExitStack() as stack:
        live: Live | None = None
        async for overview in overviews:
            if live is None:
                first = Live(render(overview), console=Console(), auto_refresh=False)
                live = stack.enter_context(first)
            else:
                live.update(render(overview), refresh=True)


def render(overview: Overview) -> Group:
    """The overview as tables."""
    always = (LANES, LETTERS, WORKERS)
    return Group(
        *(
            _table(headings, rows)
            for headings, rows in tables(overview)
            if rows or headings in always
        )
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for row in rows:
        # Text, not markup: a queue named [red] is a name.
        table.add_row(*(Text("-" if cell is None else escape(cell)) for cell in row))
    return table
