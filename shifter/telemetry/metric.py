"""All metrics: of workers, of services, and of the lanes of a whole namespace.

`WorkerMetrics`, `ServiceMetrics` and `FleetMetrics` declare them, and `SPECS` lists
them. What they are made of is in `shifter.telemetry.series`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from shifter.telemetry.fleet_metric import FleetMetrics
from shifter.telemetry.metric_set import MetricSet
from shifter.telemetry.series import LabelValues, Snapshot, Spec

# OpenTelemetry's messaging buckets, semantic conventions 1.44, then up to a timeout.
_RUN_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0),
)
# From a write to memory to the longest accept timeout that is usual.
_APPEND_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    *(5.0, 10.0, 30.0),
)
# From a pick-up at once to a job shifted by a week.
_WAIT_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0),
)

# From an hour late to a day early.
_MARGIN_S: Final = (
    *(-3_600.0, -60.0, -1.0, 0.0, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0),
    *(3_600.0, 14_400.0, 86_400.0),
)

BUILD_INFO: Final = Spec(
    "shifter_build_info", "gauge", ("version",), "Always 1; tells the version."
)

SCRAPE: Final = Spec(
    "shifter_scrape_duration_seconds",
    "gauge",
    (),
    "How long the page of metrics took to make the last time; not on the first one.",
)

_MOST_KINDS: Final = 50
"""Kinds of failures that are labels, in one process."""

_CIRCUIT_WORDS: Final = ("closed", "half_open", "open")


class Metrics(MetricSet):
    """The metrics that every worker and every service has.

    One thread writes at a time; any thread reads.

    Attributes:
        circuit_changes: The scope is ``fleet`` or ``process``.
        circuit_openings: Kinds beyond the first 50 are counted as ``other``.
        held_back: ``by`` is ``circuit``, ``limit``, ``budget`` or ``rate``.
        job_events: The outcome is ``written`` or ``lost``.
        calls: The outcome is ``success``, ``failure``, ``throttled`` or ``ignored``.
        limit: Of one process; a page of several shows the sum.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds = LabelValues(_MOST_KINDS)
        self.circuit_changes = self._counter(
            "shifter_circuit_changes_total",
            ("dependency", "scope", "state"),
            "Changes of circuits that this process learnt of.",
        )
        self.circuit_openings = self._counter(
            "shifter_circuit_openings_total",
            ("dependency", "scope", "kind"),
            "Openings of circuits that this process learnt of, by the kind of failure.",
        )
        self.circuit_state = self._gauge(
            "shifter_circuit_state",
            ("dependency", "scope", "state"),
            "Processes that see a circuit in this state.",
        )
        self.endpoint_ejections = self._counter(
            "shifter_endpoint_ejections_total",
            ("dependency", "kind"),
            "Endpoints that a process ejected, by the kind of failure.",
        )
        self.endpoints = self._gauge(
            "shifter_endpoints",
            ("dependency", "state"),
            "Endpoints that a process sees in this state; a page of several processes "
            "shows the largest number.",
            across="max",
        )
        self.fleet_strange = self._counter(
            "shifter_fleet_strange_total",
            (),
            "Values in the state store that were none of ours, and were passed over.",
        )
        self.job_events = self._counter(
            "shifter_job_events_total",
            ("outcome",),
            "Events of jobs, by whether the topic of events took them.",
        )
        self.held_back = self._counter(
            "shifter_held_back_total",
            ("dependency", "by"),
            "Starts of jobs and calls that a dependency's circuit, limit, budget or "
            "rate put off.",
        )

        self.calls = self._counter(
            "shifter_calls_total",
            ("dependency", "outcome"),
            "Calls to dependencies that ended.",
        )
        self.budget_left = self._gauge(
            "shifter_budget_left",
            ("dependency",),
            "Retries left of the budget, this process's share of its floor included.",
        )
        self.limit = self._gauge(
            "shifter_limit",
            ("dependency",),
            "Calls at once that the concurrency limit of a dependency allows.",
        )
        self.quality = self._gauge(
            "shifter_quality", ("quality",), "Processes that serve at this quality."
        )
        self.loop_lag = self._gauge(
            "shifter_loop_lag_seconds",
            (),
            "How late the event loop was at the most, of late.",
            across="max",
        )
        self.clock_skew = self._gauge(
            "shifter_clock_skew_seconds",
            (),
            "How far the wall clock is from that of the state store, either way; not "
            "before the store has answered.",
            across="max",
        )

    def circuit_changed(
        self, dependency: str, scope: str, state: str, kind: str | None = None
    ) -> None:
        """Count a change of a circuit, and set the gauge of its state.

        Args:
            dependency: The name of the dependency.
            scope: ``fleet`` or ``process``.
            state: ``closed``, ``half_open`` or ``open``.
            kind: The kind of failure that it opened for; ``None`` if not known.
        """
        self.circuit_changes.of(dependency, scope, state).inc()
        if state == "open":
            label = self._kinds.of(kind or "unknown")
            self.circuit_openings.of(dependency, scope, label).inc()
        self.set_circuit(dependency, scope, state)

    def endpoints_ejected(self, dependency: str, kinds: Mapping[str, int]) -> None:
        """Count ejections of a dependency's endpoints, by kind of failure."""
        for kind, count in kinds.items():
            label = self._kinds.of(kind)
            self.endpoint_ejections.of(dependency, label).inc(count)

    def set_circuit(self, dependency: str, scope: str, state: str) -> None:
        """Set the gauge of a circuit; arguments as of `circuit_changed`."""
        for known in _CIRCUIT_WORDS:
            is_so = int(known == state)
            self.circuit_state.of(dependency, scope, known).set(is_so)


class WorkerMetrics(Metrics):
    """The metrics of one worker process.

    Attributes:
        jobs: The outcome is ``done``, ``dead``, ``expired``, ``cancelled`` or
            ``discarded``.
        misfits: Job types beyond the first 50 are counted as ``other``.
        retries: The reason is ``failed``, ``retry_asked`` or ``throttled``.
        claims: The answer is ``granted``, ``busy``, ``finished``, ``handed_over`` or
            ``cancelled``.
        commits: The outcome is ``success`` or ``failure``.
    """

    def __init__(self) -> None:
        super().__init__()
        lane = ("queue", "priority")
        self.jobs = self._counter(
            "shifter_jobs_total", (*lane, "outcome"), "Jobs that ended."
        )
        self.attempts = self._counter(
            "shifter_attempts_total", lane, "Attempts that started."
        )
        self.job_wait = self._histogram(
            "shifter_job_wait_seconds",
            lane,
            "From submission to the start of the first attempt: the time-shift.",
            _WAIT_S,
        )
        self.job_duration = self._histogram(
            "shifter_job_duration_seconds", lane, "How long attempts ran.", _RUN_S
        )
        self.dead_letters = self._counter(
            "shifter_dead_letters_total",
            ("queue", "reason"),
            "Records written to a dead-letter topic.",
        )
        self.misfits = self._counter(
            "shifter_misfits_total",
            ("queue", "job", "reason"),
            "Waits for a worker that knows a job's type and fields; 50 types by name.",
        )
        self.moved = self._counter(
            "shifter_jobs_moved_total",
            lane,
            "Jobs given to another worker, since this one had no free slot.",
        )
        self.headers_dropped = self._counter(
            "shifter_headers_dropped_total",
            ("queue",),
            "Headers of users that were too many, too large or unprintable.",
        )
        self.records_lost = self._counter(
            "shifter_records_lost_total",
            ("topic",),
            "Records the log deleted before anybody read them.",
        )
        self.claim_store_errors = self._counter(
            "shifter_claim_store_errors_total",
            (),
            "Calls to the claim store that failed.",
        )
        self.deadline_margin = self._histogram(
            "shifter_job_deadline_margin_seconds",
            lane,
            "From the end of a job to its deadline; 0 or below where it ended late.",
            _MARGIN_S,
        )
        self.retries = self._counter(
            "shifter_retries_total",
            (*lane, "reason"),
            "Attempts after which the job is to run again.",
        )
        self.replays = self._counter(
            "shifter_replays_total",
            ("queue",),
            "First attempts of replayed dead letters; one that is put off begins anew.",
        )
        self.canary = self._histogram(
            "shifter_canary_round_trip_seconds",
            lane,
            "From the submission of a canary to its run, by the clocks of both.",
            _RUN_S,
        )
        self.claims = self._counter(
            "shifter_claims_total",
            ("answer",),
            "Answers of the claim store to workers that ask to run a job.",
        )
        self.claim_duration = self._histogram(
            "shifter_claim_duration_seconds",
            (),
            "How long the claim store took for the claims of one batch of jobs.",
            _APPEND_S,
        )
        self.slots = self._gauge(
            "shifter_slots", (), "Attempts that may run at once, of all processes."
        )
        self.slots_busy = self._counter(
            "shifter_slots_busy_seconds_total",
            (),
            "For how long slots had an attempt that ran: a second for each of them.",
        )
        self.rebalances = self._counter(
            "shifter_rebalances_total",
            (),
            "Changes of the partitions that a member of a consumer group owns (Kafka).",
        )
        self.commits = self._counter(
            "shifter_commits_total",
            ("outcome",),
            "Commits of positions to a consumer group (Kafka).",
        )
        self.frontier_gap = self._gauge(
            "shifter_frontier_gap",
            (),
            "Records that ended and that no committed position covers (Kafka).",
        )
        self.inflight = self._gauge("shifter_inflight", lane, "Attempts running now.")
        self.lane_closed = self._gauge(
            "shifter_lane_closed",
            lane,
            "Processes in which a lane starts nothing by its hours, or in a quiet time "
            "only.",
        )
        self.pace_slots = self._gauge(
            "shifter_pace_slots",
            ("part",),
            "Slots that paced jobs may use (allowed), and what decided it: what their "
            "deadlines need (needed), what spreads them (spread), and what more urgent "
            "work uses usually (usual) and now (urgent).",
        )
        self.waiting_bytes = self._gauge(
            "shifter_waiting_bytes",
            (),
            "Payloads of fetched jobs that have not started, and 2 kB for each.",
        )


class ServiceMetrics(Metrics):
    """The metrics of one service process.

    Attributes:
        decisions: The answer is ``ran``, ``deferred``, ``degraded``, ``shed``, or
            ``error`` where the call raised; then the reason is that of the decision.
            Job types beyond the first 100 are counted as ``other``.
        appends: The outcome is ``appended``, ``spooled``, ``refused`` or ``unknown``.
        append_failures: The reason is that of the answer, or ``unknown``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decisions = self._counter(
            "shifter_decisions_total",
            ("job", "priority", "answer", "reason"),
            "Calls of submit that ended, and requests that were decided about.",
        )
        self.appends = self._counter(
            "shifter_appends_total",
            ("queue", "priority", "outcome"),
            "Records that were given to the log.",
        )
        self.append_failures = self._counter(
            "shifter_append_failures_total",
            ("reason",),
            "Records that neither the log nor the spool acknowledged.",
        )
        self.append_duration = self._histogram(
            "shifter_append_duration_seconds",
            (),
            "How long the log took for the records of one call, the spool included.",
            _APPEND_S,
        )
        self.spool_records = self._gauge(
            "shifter_spool_records", (), "Records in the spool of this machine."
        )
        self.spool_bytes = self._gauge(
            "shifter_spool_bytes", (), "Used bytes of the file of the spool."
        )
        self.spool_age = self._gauge(
            "shifter_spool_age_seconds",
            (),
            "Age of the oldest record in the spool; 0 where it has none.",
        )


WORKER_SPECS: Final = WorkerMetrics().specs
SERVICE_SPECS: Final = ServiceMetrics().specs
FLEET_SPECS: Final = FleetMetrics().specs
SPECS: Final = WORKER_SPECS | SERVICE_SPECS | FLEET_SPECS
"""What each metric is, by its published name."""


class HasMetrics(Protocol):
    """What a scrape reads: `shifter.Shifter`."""

    def metrics(self) -> Snapshot:
        """All readings now; may block."""
