"""The outcome of a run: its numbers, and whether each accepted job is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from shifter.demo.tally import Row, Tally
from shifter.demo.wire import Look
from shifter.model.lane import Priority

COLUMNS: Final = (
    "priority",
    "offered",
    "executed",
    "dead",
    "waiting",
    "wait p50",
    "wait p99",
)


class Outcome(NamedTuple):
    """One run.

    Attributes:
        speed: Trace seconds a second.
        played_s: How long jobs were offered.
        drained_s: How long the rest was waited for.
        is_interrupted: Whether Ctrl-C, or another signal, ended it.
        slots: Of the backend.
        tally: Everything that was counted.
        rows: By priority, most urgent first.
        lost: Accepted jobs that neither ended nor wait.
        duplicates: Jobs whose work was carried out twice.
        repeats: Requests for work already done, answered without doing it again.
        unknown: Calls of ``defer`` whose outcome is not known.
    """

    speed: float
    played_s: float
    drained_s: float
    is_interrupted: bool
    slots: int
    tally: Tally
    rows: list[Row]
    lost: int
    duplicates: int
    repeats: int
    unknown: int

    @property
    def waiting(self) -> int:
        """Accepted jobs that have not ended and are safe in the log."""
        return sum(row.waiting for row in self.rows)

    @property
    def is_complete(self) -> bool:
        """Whether every accepted job ended, once."""
        return not (self.waiting or self.lost or self.duplicates)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; the field names stay."""
        return {
            "ok": self.is_complete,
            "interrupted": self.is_interrupted,
            "speed": self.speed,
            "played_s": round(self.played_s, 3),
            "drained_s": round(self.drained_s, 3),
            "backend_slots": self.slots,
            "offered": sum(row.offered for row in self.rows),
            "accepted": len(self.tally.accepted),
            "refused": dict(self.tally.refused),
            "unknown": self.unknown,
            "executed": sum(row.executed for row in self.rows),
            "dead": sum(row.dead for row in self.rows),
            "ended_otherwise": sum(row.ended_otherwise for row in self.rows),
            "waiting": self.waiting,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "repeats": self.repeats,
            "priorities": [_as_json(row) for row in self.rows],
            "events": [
                {"at_s": round(at_s, 3), "event": text}
                for at_s, text in self.tally.events
            ],
        }


def _as_json(row: Row) -> dict[str, Any]:
    values = row._asdict()
    for name in ("wait_p50_s", "wait_p99_s"):
        if values[name] is not None:
            values[name] = round(values[name], 4)
    return {**values, "priority": row.priority.value}


class Cut(NamedTuple):
    """How long a run took.

    Attributes:
        played_s: How long jobs were offered.
        drained_s: How long the rest was waited for.
        is_interrupted: Whether Ctrl-C, or another signal, ended it.
    """

    played_s: float
    drained_s: float
    is_interrupted: bool


def settle(
    tally: Tally, look: Look, left: Mapping[Priority, int], cut: Cut, *, speed: float
) -> Outcome:
    """Account for every accepted job.

    Args:
        tally: What was counted, the final look included.
        look: The backend's last word.
        left: Records of each lane that are not settled, after the workers ended.
        cut: How long it took.
        speed: Trace seconds a second.
    """
    for job_id in [i for i in tally.unknown if i in tally.executed or i in tally.dead]:
        # It was written after all.
        tally.unknown.discard(job_id)
        tally.accepted[job_id] = tally.executed.get(job_id, Priority.NORMAL)
    unfinished = Counter(tally.accepted[job_id] for job_id in tally.unfinished())
    waiting = {p: min(count, left.get(p, 0)) for p, count in unfinished.items()}
    return Outcome(
        speed=speed,
        played_s=cut.played_s,
        drained_s=cut.drained_s,
        is_interrupted=cut.is_interrupted,
        slots=look.slots,
        tally=tally,
        rows=tally.rows(waiting),
        lost=unfinished.total() - sum(waiting.values()),
        duplicates=look.doubled,
        repeats=look.repeats,
        unknown=len(tally.unknown),
    )


def cells(outcome: Outcome) -> list[Sequence[object]]:
    """The rows of the table, with the sums at the end."""
    rows = [_cells(row) for row in outcome.rows]
    offered = sum(row.offered for row in outcome.rows)
    executed = sum(row.executed for row in outcome.rows)
    dead = sum(row.dead for row in outcome.rows)
    return [*rows, ("all", offered, executed, dead, outcome.waiting, "", "")]


def verdict(outcome: Outcome) -> str:
    """One line that states whether every job is accounted for."""
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
