"""All metrics of workers and services, and their sums over processes.

`WorkerMetrics` and `ServiceMetrics` declare them, and `SPECS` lists them. What they are
made of is in `shifter.telemetry.series`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from shifter.telemetry.series import (
    Bars,
    C,
    Counter,
    Family,
    Gauge,
    Histogram,
    Reading,
    Snapshot,
    Spec,
)

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

BUILD_INFO: Final = Spec(
    "shifter_build_info", "gauge", ("version",), "Always 1; tells the version."
)

_CIRCUIT_WORDS: Final = ("closed", "half_open", "open")


class Metrics:
    """The metrics that every kind of process has.

    One thread writes at a time; any thread reads.

    Attributes:
        circuit_changes: The scope is ``fleet`` or ``process``.
        held_back: ``by`` is ``circuit``, ``limit``, ``budget`` or ``rate``.
    """

    def __init__(self) -> None:
        self._families: list[Family[Any]] = []
        self.circuit_changes = self._counter(
            "shifter_circuit_changes_total",
            ("dependency", "scope", "state"),
            "Changes of circuits that this process learnt of.",
        )
        self.circuit_state = self._gauge(
            "shifter_circuit_state",
            ("dependency", "scope", "state"),
            "Processes that see a circuit in this state; a worker tells it from the "
            "first change on.",
        )
        self.fleet_strange = self._counter(
            "shifter_fleet_strange_total",
            (),
            "Values in the state store that were none of ours, and were passed over.",
        )
        self.held_back = self._counter(
            "shifter_held_back_total",
            ("dependency", "by"),
            "Starts of jobs and calls that a dependency's circuit, limit, budget or "
            "rate put off.",
        )

    def circuit_changed(self, dependency: str, scope: str, state: str) -> None:
        """Count a change of a circuit, and set the gauge of its state.

        Args:
            dependency: The name of the dependency.
            scope: ``fleet`` or ``process``.
            state: ``closed``, ``half_open`` or ``open``.
        """
        self.circuit_changes.of(dependency, scope, state).inc()
        self.set_circuit(dependency, scope, state)

    def set_circuit(self, dependency: str, scope: str, state: str) -> None:
        """Set the gauge of a circuit; arguments as of `circuit_changed`."""
        for known in _CIRCUIT_WORDS:
            is_so = int(known == state)
            self.circuit_state.of(dependency, scope, known).set(is_so)

    @property
    def specs(self) -> dict[str, Spec]:
        """What the metrics are, by name."""
        return {family.spec.name: family.spec for family in self._families}

    def snapshot(self) -> Snapshot:
        """All readings now, as plain data."""
        return {family.spec.name: family.read() for family in self._families}

    def _counter(
        self, name: str, labels: tuple[str, ...], text: str
    ) -> Family[Counter]:
        return self._add(Spec(name, "counter", labels, text), Counter)

    def _gauge(self, name: str, labels: tuple[str, ...], text: str) -> Family[Gauge]:
        return self._add(Spec(name, "gauge", labels, text), Gauge)

    def _histogram(
        self, name: str, labels: tuple[str, ...], text: str, bounds: tuple[float, ...]
    ) -> Family[Histogram]:
        spec = Spec(name, "histogram", labels, text, bounds)
        return self._add(spec, lambda: Histogram(bounds))

    def _add(self, spec: Spec, make: Callable[[], C]) -> Family[C]:
        family = Family(spec, make)
        self._families.append(family)
        return family


class WorkerMetrics(Metrics):
    """The metrics of one worker process.

    Attributes:
        jobs: The outcome is ``done``, ``dead``, ``expired``, ``cancelled`` or
            ``discarded``.
        misfits: Job types beyond the first 50 are counted as ``other``.
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
        self.inflight = self._gauge("shifter_inflight", lane, "Attempts running now.")
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
        calls: The outcome is ``success``, ``failure``, ``throttled`` or ``ignored``.
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


WORKER_SPECS: Final = WorkerMetrics().specs
SERVICE_SPECS: Final = ServiceMetrics().specs
SPECS: Final = WORKER_SPECS | SERVICE_SPECS
"""What each metric is, by its published name."""


LABELS: Final = {
    "answer": "`ran`, `deferred`, `degraded`, `shed`, or `error` where the call raised",
    "by": "`circuit`, `limit`, `budget` or `rate`",
    "dependency": "the name of a dependency",
    "job": "the name of a job type, `http` or `grpc` for a request that is no job",
    "outcome": "of a job `done`, `dead`, `expired`, `cancelled` or `discarded`; of an "
    "append `appended`, `spooled`, `refused` or `unknown`; of a call `success`, "
    "`failure`, `throttled` or `ignored`",
    "priority": "`CRITICAL`, `HIGH`, `NORMAL` or `LOW`",
    "queue": "the name of a queue",
    "reason": "a value of `shifter.Reason`; `unknown` where the log did not answer",
    "scope": "`fleet`, or `process` for the circuit of one process",
    "state": "`closed`, `half_open` or `open`",
    "topic": "the name of a topic of the log",
    "version": "the version of shifter",
}
"""What the values of each label are, in Markdown."""


class HasMetrics(Protocol):
    """What a scrape reads: `shifter.Shifter`."""

    def metrics(self) -> Snapshot:
        """All readings now; may block."""


class Totals:
    """Sums of readings by source. Owned by one thread."""

    def __init__(self) -> None:
        self._live: dict[str, Snapshot] = {}
        self._past: Snapshot = {}

    def absorb(self, source: str, snapshot: Snapshot) -> None:
        """Replace what is known of a process."""
        self._live[source] = snapshot

    def retire(self, source: str) -> None:
        """Note that a process has ended; its counts stay, its gauges go."""
        counts = {
            name: series
            for name, series in self._live.pop(source, {}).items()
            if SPECS[name].kind != "gauge"
        }
        self._past = add_up((self._past, counts))

    def snapshot(self) -> Snapshot:
        """The sum of all processes, living and ended."""
        return add_up((self._past, *self._live.values()))


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of readings, series by series."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            found = total.setdefault(name, {})
            for values, reading in series.items():
                found[values] = _plus(found.get(values), reading)
    return total


def _plus(left: Reading | None, right: Reading) -> Reading:
    if left is None:
        return right
    if isinstance(left, Bars) and isinstance(right, Bars):
        counts = tuple(a + b for a, b in zip(left.counts, right.counts, strict=True))
        return Bars(counts, left.total + right.total)
    if isinstance(left, Bars) or isinstance(right, Bars):
        raise TypeError("a histogram and a number cannot be added")
    return left + right
