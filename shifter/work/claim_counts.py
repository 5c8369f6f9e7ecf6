"""Counts what the claim store answers, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimAnswer,
    Finished,
    Granted,
    HandedOver,
)
from shifter.telemetry import WorkerMetrics

_WORDS: Final[dict[type[ClaimAnswer], str]] = {
    Granted: "granted",
    Busy: "busy",
    Finished: "finished",
    HandedOver: "handed_over",
    Cancelled: "cancelled",
}


class ClaimCounts:
    """The answers of a claim store to one worker. Owned by its event loop.

    Args:
        metrics: Where counts go.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._answers: list[type[ClaimAnswer]] = []
        self._took_s: list[float] = []

    def add(self, answers: Sequence[ClaimAnswer], took_s: float) -> None:
        """Note the answers for one batch, and the seconds that they took."""
        # Counted together later: a batch may be a single job.
        self._answers.extend(map(type, answers))
        self._took_s.append(took_s)

    def fold(self) -> None:
        """Count what was noted since the last call."""
        for answer, count in Counter(self._answers).items():
            self._metrics.claims.of(_WORDS[answer]).inc(count)
        self._metrics.claim_duration.of().observe_many(self._took_s)
        self._answers.clear()
        self._took_s.clear()
