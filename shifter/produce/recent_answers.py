"""What a service answered within the last minute, for its report to the fleet."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, TypeAlias

from shifter.fleet.service_reports import (
    PriorityCounts,
    RecentAnswers,
    ServiceReport,
)
from shifter.model.lane import Priority
from shifter.policy.protection.budget import URGENT_FIRST
from shifter.ports import Clock

_MINUTE_S: Final = 60.0
_EVERY_S: Final = 1.0
"""Between two sums that are kept: a minute has at most 62 of them."""
_OFFERED: Final = "offered"
_WORDS: Final = ("ran", "deferred", "degraded", "shed")

_Sums: TypeAlias = Counter[tuple[str, Priority]]


class AnswerCounts:
    """Counts the answers of one process. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._sums: _Sums = Counter()
        self._kept: deque[tuple[float, _Sums]] = deque()
        self._started_ms = self._shedding_ms = 0

    def add(self, priority: Priority, answer: str, count: int) -> None:
        """Count answers.

        Args:
            priority: Of the calls.
            answer: ``ran``, ``deferred``, ``degraded``, ``shed`` or ``error``.
            count: How many.
        """
        self._sums[_OFFERED, priority] += count
        self._sums[answer, priority] += count

    def report(self, clock: Clock, version: str) -> ServiceReport:
        """What the service reports about itself now; it began at the first report."""
        now, now_ms, kept = clock.monotonic(), clock.epoch_ms(), self._kept
        self._started_ms = self._started_ms or now_ms
        if not kept:
            kept.append((now, Counter()))
        while len(kept) > 1 and kept[1][0] <= now - _MINUTE_S:
            kept.popleft()
        recent = self._recent(kept[0][1])
        if now >= kept[-1][0] + _EVERY_S:
            kept.append((now, self._sums.copy()))
        self._shedding_ms = (self._shedding_ms or now_ms) if any(recent.shed) else 0
        return ServiceReport(self._started_ms, version, recent, self._shedding_ms)

    def _recent(self, before: _Sums) -> RecentAnswers:
        def counts(word: str) -> PriorityCounts:
            critical, high, normal, low = (
                self._sums[word, at] - before[word, at] for at in URGENT_FIRST
            )
            return critical, high, normal, low

        return RecentAnswers(counts(_OFFERED), *map(counts, _WORDS))
