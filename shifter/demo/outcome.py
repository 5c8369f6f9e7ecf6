"""The counts of a run, and its outcome: whether every accepted job is accounted for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shifter.demo.backend import BackendState, Execution
from shifter.model.lane import Priority

COLUMNS: Final = (
    *("priority", "offered", "executed", "dead", "waiting", "wait p50", "wait p99"),
)


class Row(NamedTuple):
    """The counts of one priority.

    Attributes:
        priority: Of the jobs.
        offered: Calls of ``defer``.
        accepted: Those that are durable.
        executed: Those whose work the backend carried out.
        dead: Those in the dead-letter topic.
        ended_otherwise: Those that expired, were cancelled or discarded.
        waiting: Those accepted, not ended and still in the log.
        wait_p50_s: From arrival to the start of the work, half of the executed.
        wait_p99_s: The same, 99 of a hundred.
    """

    priority: Priority
    offered: int
    accepted: int
    executed: int
    dead: int
    ended_otherwise: int
    waiting: int
    wait_p50_s: float | None
    wait_p99_s: float | None

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        waits = {"wait_p50_s": self.wait_p50_s, "wait_p99_s": self.wait_p99_s}
        rounded = {k: None if s is None else round(s, 4) for k, s in waits.items()}
        return {**self._asdict(), **rounded, "priority": self.priority.value}


class Tally:
    """Counts the jobs of a run while it goes on.

    Attributes:
        began_at: Monotonic seconds at which jobs began to be offered; 0 before.
        played_s: How long jobs were offered.
        drained_s: How long the rest was waited for.
        is_interrupted: Whether Ctrl-C, or another signal, ended the run.
        accepted: Job id of every durable job, to its priority.
        refused: Reason to how many were not accepted.
        unknown: Ids of jobs that may or may not be in the log.
        executed: Ids of jobs that the backend carried out, to their priority.
        dead: Ids of jobs in the dead-letter topic.
        ended_otherwise: Ids of jobs that expired, were cancelled or discarded.
        waiting: For each look at the lanes its second, and how many waited.
        events: Second and text of what was done to the run.
    """

    def __init__(self) -> None:
        self.began_at = self.played_s = self.drained_s = 0.0
        self.is_interrupted = False
        self.accepted: dict[str, Priority] = {}
        self.refused: Counter[str] = Counter()
        self.unknown: set[str] = set()
        self.executed: dict[str, Priority] = {}
        self.dead: set[str] = set()
        self.ended_otherwise: set[str] = set()
        self.waiting: list[tuple[float, Mapping[Priority, int]]] = []
        self.events: list[tuple[float, str]] = []
        self._offered = {priority: Counter[int]() for priority in Priority}
        self._executed = {priority: Counter[int]() for priority in Priority}
        self._waits: dict[Priority, list[float]] = {p: [] for p in Priority}

    def offer(self, priority: Priority, now: float) -> None:
        """Count a job that is offered."""
        self._offered[priority][self._second(now)] += 1

    def execute(self, executions: Iterable[Execution]) -> None:
        """Count jobs whose work the backend carried out."""
        for one in executions:
            self.executed[one.job_id] = one.priority
            self._executed[one.priority][self._second(one.ended_at)] += 1
            self._waits[one.priority].append(one.wait_s)

    def note(self, text: str, now: float) -> None:
        """Record an event for the plot."""
        self.events.append((now - self.began_at if self.began_at else 0.0, text))

    def unfinished(self) -> list[str]:
        """Accepted jobs that have not ended, as far as is known."""
        ended = self.dead | self.ended_otherwise
        return [i for i in self.accepted if i not in self.executed and i not in ended]

    def offered_per_s(self, priority: Priority, seconds: int) -> list[int]:
        """Jobs offered in each of the first so many seconds."""
        return [self._offered[priority][second] for second in range(seconds)]

    def executed_per_s(self, priority: Priority, seconds: int) -> list[int]:
        """Jobs carried out in each of the first so many seconds."""
        return [self._executed[priority][second] for second in range(seconds)]

    def row(self, priority: Priority, waiting: int) -> Row:
        """The counts of one priority.

        Args:
            priority: Of the jobs.
            waiting: How many of them still wait.
        """
        accepted = self.accepted
        waits = sorted(self._waits[priority])
        return Row(
            priority=priority,
            offered=self._offered[priority].total(),
            accepted=sum(1 for found in accepted.values() if found is priority),
            executed=self._executed[priority].total(),
            dead=sum(1 for i in self.dead if accepted.get(i) is priority),
            ended_otherwise=sum(
                1 for i in self.ended_otherwise if accepted[i] is priority
            ),
            waiting=waiting,
            wait_p50_s=quantile(waits, 0.5),
            wait_p99_s=quantile(waits, 0.99),
        )

    def _second(self, now: float) -> int:
        return max(0, int(now - self.began_at))


class Outcome(NamedTuple):
    """The outcome of a run.

    Attributes:
        speed: Trace seconds a second.
        slots: Of the backend.
        tally: The counts.
        rows: By priority, most urgent first.
        lost: Accepted jobs that neither ended nor wait.
        duplicates: Jobs whose work was carried out twice.
        repeats: Requests for work already done, answered without doing it again.
    """

    speed: float
    slots: int
    tally: Tally
    rows: list[Row]
    lost: int
    duplicates: int
    repeats: int

    @property
    def waiting(self) -> int:
        """Accepted jobs that have not ended and are safe in the log."""
        return self.total("waiting")

    @property
    def is_complete(self) -> bool:
        """Whether every accepted job ended, once."""
        return not (self.waiting or self.lost or self.duplicates)

    def total(self, column: str) -> int:
        """The sum of one column over all priorities."""
        return sum(getattr(row, column) for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON values; the field names stay."""
        tally = self.tally
        return {
            "ok": self.is_complete,
            "interrupted": tally.is_interrupted,
            "speed": self.speed,
            "played_s": round(tally.played_s, 3),
            "drained_s": round(tally.drained_s, 3),
            "backend_slots": self.slots,
            "offered": self.total("offered"),
            "accepted": len(tally.accepted),
            "refused": dict(tally.refused),
            "unknown": len(tally.unknown),
            "executed": self.total("executed"),
            "dead": self.total("dead"),
            "ended_otherwise": self.total("ended_otherwise"),
            "waiting": self.waiting,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "repeats": self.repeats,
            "priorities": [row.as_json() for row in self.rows],
            "events": [
                {"at_s": round(at_s, 3), "event": text} for at_s, text in tally.events
            ],
        }


def settle(
    tally: Tally, state: BackendState, left: Mapping[Priority, int], *, speed: float
) -> Outcome:
    """Account for every accepted job.

    Args:
        tally: The counts, the final look included.
        state: The backend's, after the last job.
        left: Records of each lane that are not settled, after the workers ended.
        speed: Trace seconds a second.
    """
    for job_id in [i for i in tally.unknown if i in tally.executed or i in tally.dead]:
        # The call's answer was lost, but the job was written.
        tally.unknown.discard(job_id)
        tally.accepted[job_id] = tally.executed.get(job_id, Priority.NORMAL)
    unfinished = Counter(tally.accepted[job_id] for job_id in tally.unfinished())
    waiting = {p: min(count, left.get(p, 0)) for p, count in unfinished.items()}
    return Outcome(
        speed=speed,
        slots=state.slots,
        tally=tally,
        rows=[tally.row(p, waiting.get(p, 0)) for p in Priority],
        lost=unfinished.total() - sum(waiting.values()),
        duplicates=state.doubled,
        repeats=state.repeats,
    )


def cells(outcome: Outcome) -> list[Sequence[object]]:
    """The rows of the table, with the sums at the end."""
    counted = COLUMNS[1:5]
    rows: list[Sequence[object]] = [
        (
            row.priority.value,
            *(getattr(row, column) for column in counted),
            *(None if s is None else f"{s:.2f} s" for s in (row[-2], row[-1])),
        )
        for row in outcome.rows
    ]
    return [*rows, ("all", *(outcome.total(column) for column in counted), "", "")]


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


def quantile(ascending: Sequence[float], q: float) -> float | None:
    """The smallest value that a share ``q`` does not exceed; ``None`` without values.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not ascending:
        return None
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)]
