"""The metrics of a supervisor, and of the lanes that it reads for the fleet."""

from __future__ import annotations

from shifter.telemetry.metric_set import MetricSet


class FleetMetrics(MetricSet):
    """The metrics of a supervisor of workers: its own, and those of all lanes.

    The lanes are those of the namespace. One supervisor of the fleet has them at a
    time, the one that holds a lease; the others have no such series.
    """

    def __init__(self) -> None:
        super().__init__()
        lane = ("queue", "priority")
        self.worker_restarts = self._counter(
            "shifter_worker_restarts_total",
            (),
            "Worker processes that were started in the place of one that ended.",
        )
        self.waiting = self._gauge(
            "shifter_lane_waiting", lane, "Records appended to the lane, not settled."
        )
        self.due = self._gauge(
            "shifter_lane_due", lane, "Records that are due and not settled."
        )
        self.delayed = self._gauge(
            "shifter_lane_delayed", lane, "Records that wait for their due time."
        )
        self.oldest_due = self._gauge(
            "shifter_lane_oldest_due_seconds",
            lane,
            "For how long the oldest record of the lane has waited there; 0 if none.",
        )
        self.drain_rate = self._gauge(
            "shifter_lane_drain_rate", lane, "Jobs that ended a second, of late."
        )
        self.due_backlog = self._gauge(
            "shifter_lane_due_backlog_seconds",
            lane,
            "Seconds of work that is due, at the drain rate; not while that is 0.",
        )
        self.eta = self._gauge(
            "shifter_lane_eta_seconds",
            lane,
            "Seconds until the lane is empty, at the drain rate; not while that is 0.",
        )
        self.tightest_deadline = self._gauge(
            "shifter_lane_tightest_deadline_seconds",
            lane,
            "Seconds until the earliest deadline of the first records that wait; below "
            "0 when it has passed; not where none of them has a deadline.",
        )
        self.dead_letters_open = self._gauge(
            "shifter_dead_letters_open",
            ("queue",),
            "Dead letters that no run has replayed, parked, discarded or edited.",
        )

        group = ("group",)
        self.scale_workers = self._gauge(
            "shifter_scale_workers", group, "Live workers of a worker group."
        )
        self.scale_desired = self._gauge(
            "shifter_scale_desired_workers",
            group,
            "Workers that a worker group should have, as shifter scale says.",
        )
        self.scale_backlog = self._gauge(
            "shifter_scale_due_backlog_seconds",
            group,
            "Work of a group that may start now, in seconds of one worker; while its "
            "cost is unknown, what the workers that run do by the target.",
        )

    def clear_lanes(self) -> None:
        """Forget all readings of lanes: another process has them, or none."""
        for family in self._families:
            if family is not self.worker_restarts:
                family.clear()
