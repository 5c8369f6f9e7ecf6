"""Metrics of a worker that have no events: read once a heartbeat.

Nothing here is on the path of a job. What a process does is read where it stands, and
the event loop's lag is measured by a timer of its own.
"""

from __future__ import annotations

import asyncio
from typing import Final

from shifter.fleet.readings import read_fleet, show_fleet
from shifter.telemetry import WorkerMetrics
from shifter.telemetry.series import Bars
from shifter.work.drain import Drain

_EVERY_S: Final = 0.05
"""Between two calls of the timer."""


class LagTimer:
    """Measures how late the running event loop is, until `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._worst_s = 0.0
        self._wait()

    def take_s(self) -> float:
        """The longest lag since the last time, seconds >= 0."""
        # A loop that is blocked since long calls the timer after its caller only.
        overdue_s = self._loop.time() - self._timer.when()
        worst_s, self._worst_s = max(self._worst_s, overdue_s), 0.0
        return worst_s

    def stop(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = self._loop.call_later(_EVERY_S, self._called)

    def _called(self) -> None:
        self._worst_s = max(self._worst_s, self._loop.time() - self._timer.when())
        self._wait()


def read_worker(drain: Drain, *, lag_s: float) -> None:
    """Set the metrics of a worker to what it does now.

    Args:
        drain: What runs.
        lag_s: How late the event loop was since the last reading.
    """
    metrics: WorkerMetrics = drain.observer.metrics
    metrics.slots.of().set(drain.concurrency)
    metrics.slots_busy.of().reach(_busy_s(drain))
    metrics.loop_lag.of().set(lag_s)
    counts = [feed.counts() for feed in drain.feeds.values()]
    metrics.rebalances.of().reach(sum(one.rebalances for one in counts))
    metrics.commits.of("success").reach(sum(one.commits for one in counts))
    metrics.commits.of("failure").reach(sum(one.commits_failed for one in counts))
    metrics.frontier_gap.of().set(sum(one.frontier_gap for one in counts))
    gate = drain.state.lane_gate
    closed = drain.state.buffer.closed | gate.quiet_lanes
    for topic, lane in drain.lanes.items():
        gauge = metrics.lane_closed.of(lane.queue, lane.priority.value)
        gauge.set(int(topic in closed))
    if drain.pacer is not None:
        for part, slots in drain.pacer.parts().items():
            metrics.pace_slots.of(part).set(slots)
    show_fleet(metrics, read_fleet(drain.replica))


def _busy_s(drain: Drain) -> float:
    """Seconds that attempts have run, those that ended and those that run."""
    now, ended_s = drain.clock.monotonic(), 0.0
    for bars in drain.observer.metrics.job_duration.read().values():
        ended_s += bars.total if isinstance(bars, Bars) else 0.0
    attempts = drain.progress().attempts
    return ended_s + sum(max(0.0, now - one.started_at) for one in attempts)
