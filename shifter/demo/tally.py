"""Counts the jobs of a run for each priority, in sum and second by second."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shifter.demo.wire import Served
from shifter.model.lane import Priority


class Row(NamedTuple):
    """What a run came to, for one priority.

    Attributes:
        priority: Whose.
        offered: Calls of ``defer``.
        accepted: Of them durable.
        executed: Carried out by the backend.
        dead: In the dead-letter topic.
        ended_otherwise: Expired, cancelled or discarded.
        waiting: Accepted, not ended and still in the log.
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


class Tally:
    """Grows while a run goes on.

    Attributes:
        accepted: Job id of every durable job, to its priority.
        refused: Reason to how many were not accepted.
        unknown: Ids of jobs that may or may not be in the log.
        executed: Job ids the backend carried out.
        dead: Job ids in the dead-letter topic.
        ended_otherwise: Ids of jobs that expired, were cancelled or discarded.
        waiting: For each look at the lanes its second, and how many waited.
        events: What happened when, in seconds after the beginning.
    """

    def __init__(self) -> None:
        self.began_at = 0.0
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

    def begin(self, now: float) -> None:
        """The play starts now; monotonic seconds."""
        self.began_at = now

    def offer(self, priority: Priority, now: float) -> None:
        """A job is offered."""
        self._offered[priority][self._second(now)] += 1

    def serve(self, served: Iterable[Served]) -> None:
        """The backend carried these out."""
        for one in served:
            self.executed[one.job_id] = one.priority
            self._executed[one.priority][self._second(one.ended_at)] += 1
            self._waits[one.priority].append(one.wait_s)

    def note(self, text: str, now: float) -> None:
        """Note an event for the plot."""
        self.events.append((now - self.began_at if self.began_at else 0.0, text))

    def unfinished(self) -> list[str]:
        """Accepted jobs that have not ended, as far as is known."""
        ended = self.dead | self.ended_otherwise
        return [i for i in self.accepted if i not in self.executed and i not in ended]

    def offered_by(self, priority: Priority) -> int:
        """How many of a priority were offered."""
        return self._offered[priority].total()

    def offered_per_s(self, priority: Priority, seconds: int) -> list[int]:
        """Offered in each of the first so many seconds."""
        return [self._offered[priority][second] for second in range(seconds)]

    def executed_per_s(self, priority: Priority, seconds: int) -> list[int]:
        """Carried out in each of the first so many seconds."""
        return [self._executed[priority][second] for second in range(seconds)]

    def executed_by(self, priority: Priority) -> int:
        """How many of a priority were carried out."""
        return self._executed[priority].total()

    def dead_by(self, priority: Priority) -> int:
        """How many of a priority are dead letters."""
        return sum(1 for job_id in self.dead if self.accepted.get(job_id) is priority)

    def rows(self, waiting: Mapping[Priority, int]) -> list[Row]:
        """What it came to, most urgent first.

        Args:
            waiting: How many of each priority still wait.
        """
        accepted = Counter(self.accepted.values())
        return [self._row(p, accepted[p], waiting.get(p, 0)) for p in Priority]

    def _row(self, priority: Priority, accepted: int, waiting: int) -> Row:
        waits = sorted(self._waits[priority])
        otherwise = [self.accepted[i] for i in self.ended_otherwise]
        return Row(
            priority,
            self.offered_by(priority),
            accepted,
            self.executed_by(priority),
            self.dead_by(priority),
            otherwise.count(priority),
            waiting,
            quantile(waits, 0.5),
            quantile(waits, 0.99),
        )

    def _second(self, now: float) -> int:
        return max(0, int(now - self.began_at))


def quantile(ascending: Sequence[float], q: float) -> float | None:
    """The smallest value that a share ``q`` does not exceed; ``None`` without values.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not ascending:
        return None
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)]
