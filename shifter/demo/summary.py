"""What is said at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shifter.demo.outcome import Outcome
from shifter.demo.tally import Row

COLUMNS: Final = (
    "priority",
    "offered",
    "executed",
    "dead",
    "waiting",
    "wait p50",
    "wait p99",
)


def cells(outcome: Outcome) -> list[Sequence[object]]:
    """The table's rows, a sum at the end."""
    rows = [_cells(row) for row in outcome.rows]
    offered = sum(row.offered for row in outcome.rows)
    executed = sum(row.executed for row in outcome.rows)
    dead = sum(row.dead for row in outcome.rows)
    return [*rows, ("all", offered, executed, dead, outcome.waiting, "", "")]


def verdict(outcome: Outcome) -> str:
    """One line: whether everything is accounted for."""
    numbers = (
        f"accepted {len(outcome.tally.accepted)}, lost {outcome.lost}, "
        f"duplicates {outcome.duplicates}"
    )
    if outcome.is_complete:
        return f"{numbers}: every accepted job ended, once"
    if outcome.waiting and not outcome.lost:
        return f"{numbers}: {outcome.waiting} jobs still waited, safe in the log"
    return f"{numbers}: this must not be"


def _cells(row: Row) -> Sequence[object]:
    return (
        row.priority.value,
        row.offered,
        row.executed,
        row.dead,
        row.waiting,
        _seconds(row.wait_p50_s),
        _seconds(row.wait_p99_s),
    )


def _seconds(value_s: float | None) -> str | None:
    return None if value_s is None else f"{value_s:.2f} s"
