"""The metrics of one lane of a worker, looked up once.

Values are gathered in lists and sorted into the buckets of histograms a batch at a
time, which takes a third of the time.
"""

from __future__ import annotations

from shifter.model.claim import JobState
from shifter.model.lane import Lane
from shifter.telemetry import WorkerMetrics


class LaneSeries:
    """Owned by one event loop.

    Args:
        metrics: Where they are.
        lane: The lane.

    Attributes:
        attempts: Attempts that started.
        done: Jobs that succeeded.
        waits: Seconds from submission to the first attempt, until `fold`.
        durations: Seconds that attempts ran, until `fold`.
        margins: Seconds from the ends of jobs to their deadlines, until `fold`.
    """

    __slots__ = (
        "_duration",
        "_margin",
        "_wait",
        "attempts",
        "done",
        "durations",
        "margins",
        "waits",
    )

    def __init__(self, metrics: WorkerMetrics, lane: Lane) -> None:
        labels = (lane.queue, lane.priority.value)
        self.attempts = metrics.attempts.of(*labels)
        self.done = metrics.jobs.of(*labels, JobState.DONE.value)
        self._wait = metrics.job_wait.of(*labels)
        self._duration = metrics.job_duration.of(*labels)
        self._margin = metrics.deadline_margin.of(*labels)
        self.waits: list[float] = []
        self.durations: list[float] = []
        self.margins: list[float] = []

    def fold(self) -> None:
        """Add the values gathered since the last call to the histograms."""
        self._wait.observe_many(self.waits)
        self._duration.observe_many(self.durations)
        self._margin.observe_many(self.margins)
        self.waits.clear()
        self.durations.clear()
        self.margins.clear()
