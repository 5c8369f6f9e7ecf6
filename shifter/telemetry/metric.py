"""The metrics of a process, and their names.

prometheus-client's own counters take a lock and its ``Histogram.observe`` costs about
1.5 µs; at 35,000 jobs/s that would be a tenth of a worker. These are plain integers,
written by one thread and batch by batch; a scrape converts them to Prometheus' text
(`shifter.telemetry.exposition`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

MAX_SERIES: Final = 1_000
"""Label combinations kept of one metric; further ones are counted as ``other``."""

# OpenTelemetry's messaging buckets, semantic conventions 1.44, then up to a timeout.
_RUN_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0),
)
# From a pick-up at once to a job shifted by a week.
_WAIT_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0),
)


class Bars(NamedTuple):
    """A histogram's state.

    Attributes:
        counts: Values per bucket, not cumulated; the last is above all bounds.
        total: Sum of all values.
    """

    counts: tuple[int, ...]
    total: float


Reading: TypeAlias = int | float | Bars
Snapshot: TypeAlias = dict[str, dict[tuple[str, ...], Reading]]
"""Metric name to label values to reading: plain data, to be sent between processes."""


class Spec(NamedTuple):
    """What a metric is.

    Attributes:
        name: Published name.
        kind: ``counter``, ``gauge`` or ``histogram``.
        labels: Label names.
        help: One line.
        bounds: Upper bucket bounds of a histogram, included, ascending.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


SPECS: Final[dict[str, Spec]] = {
    spec.name: spec
    for spec in (
        Spec(
            "shifter_jobs_total",
            "counter",
            ("queue", "priority", "outcome"),
            "Jobs that ended.",
        ),
        Spec(
            "shifter_attempts_total",
            "counter",
            ("queue", "priority"),
            "Attempts that started.",
        ),
        Spec(
            "shifter_job_wait_seconds",
            "histogram",
            ("queue", "priority"),
            "From submission to the start of the first attempt: the time-shift.",
            _WAIT_S,
        ),
        Spec(
            "shifter_job_duration_seconds",
            "histogram",
            ("queue", "priority"),
            "How long attempts ran.",
            _RUN_S,
        ),
        Spec(
            "shifter_dead_letters_total",
            "counter",
            ("queue", "reason"),
            "Records written to a dead-letter topic.",
        ),
        Spec(
            "shifter_misfits_total",
            "counter",
            ("queue", "job", "reason"),
            "Waits for a worker that knows a job's type and fields; 50 types by name.",
        ),
        Spec(
            "shifter_headers_dropped_total",
            "counter",
            ("queue",),
            "Headers of users that were too many, too large or unprintable.",
        ),
        Spec(
            "shifter_records_lost_total",
            "counter",
            ("topic",),
            "Records the log deleted before anybody read them.",
        ),
        Spec(
            "shifter_claim_store_errors_total",
            "counter",
            (),
            "Calls to the claim store that failed.",
        ),
        Spec(
            "shifter_circuit_changes_total",
            "counter",
            ("dependency", "scope", "state"),
            "Changes of circuits that this process learnt of.",
        ),
        Spec(
            "shifter_circuit_state",
            "gauge",
            ("dependency", "scope", "state"),
            "Processes that see a circuit in this state; none until it changed once.",
        ),
        Spec(
            "shifter_fleet_strange_total",
            "counter",
            (),
            "Values in the state store that were none of ours, and were passed over.",
        ),
        Spec(
            "shifter_held_back_total",
            "counter",
            ("dependency", "by"),
            "Starts that a dependency's circuit, limit, budget or rate put off.",
        ),
        Spec(
            "shifter_inflight",
            "gauge",
            ("queue", "priority"),
            "Attempts running now.",
        ),
        Spec(
            "shifter_waiting_bytes",
            "gauge",
            (),
            "Payloads of fetched jobs that have not started, and 2 kB for each.",
        ),
    )
}


class Counter:
    """Only grows. Owned by one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, count: int = 1) -> None:
        """Add ``count``, >= 0."""
        self.value += count

    def read(self) -> Reading:
        """The count so far."""
        return self.value


class Gauge:
    """Goes up and down. Owned by one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, count: int = 1) -> None:
        """Add ``count``, which may be negative."""
        self.value += count

    def set(self, value: int) -> None:
        """Replace the value."""
        self.value = value

    def read(self) -> Reading:
        """The value now."""
        return self.value


class Histogram:
    """Values sorted into buckets. Owned by one thread.

    Args:
        bounds: Upper bounds, included, ascending.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._total = bounds, 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def observe_many(self, values: Sequence[float]) -> None:
        """Count many values, for a third of the price of one by one."""
        # Sorting runs in C, after which each bucket is one search, not each value.
        ordered, done = sorted(values), 0
        for place, bound in enumerate(self._bounds):
            # A value equal to a bound belongs below it, as in `observe`.
            end = bisect_right(ordered, bound, done)
            self._counts[place] += end - done
            done = end
            if end == len(ordered):
                break
        self._counts[-1] += len(ordered) - done
        self._total += sum(ordered)

    def read(self) -> Reading:
        """The buckets and the sum so far."""
        return Bars(tuple(self._counts), self._total)


class Series(Protocol):
    """What every kind of metric can report."""

    def read(self) -> Reading:
        """Its value now."""


C = TypeVar("C", bound=Series)


class Family(Generic[C]):
    """One metric with its label combinations.

    Args:
        spec: Its name and labels.
        make: Makes an empty series.
    """

    __slots__ = ("_make", "_series", "spec")

    def __init__(self, spec: Spec, make: Callable[[], C]) -> None:
        self.spec, self._make = spec, make
        self._series: dict[tuple[str, ...], C] = {}

    def of(self, *values: str) -> C:
        """The series with these label values; keep it where it is used often.

        Raises:
            ValueError: Another number of values than the metric has labels.
        """
        found = self._series.get(values)
        return self._add(values) if found is None else found

    def read(self) -> dict[tuple[str, ...], Reading]:
        """All series."""
        return {values: series.read() for values, series in self._series.copy().items()}

    def _add(self, values: tuple[str, ...]) -> C:
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} has the labels {self.spec.labels}")
        if len(self._series) >= MAX_SERIES:
            values = ("other",) * len(values)
        return self._series.setdefault(values, self._make())


class Metrics:
    """The metrics of one process. Write from one thread; read from any.

    Attributes:
        jobs: Ended jobs by queue, priority, outcome (``done``, ``dead``, ``expired``,
            ``cancelled``, ``discarded``).
        attempts: Started attempts by queue, priority.
        job_wait: Seconds from submission to the first start, by queue, priority.
        job_duration: Seconds attempts ran, by queue, priority.
        dead_letters: By queue, reason.
        misfits: By queue, job type (50 of them, then ``other``), reason.
        headers_dropped: By queue.
        records_lost: By topic.
        claim_store_errors: Without labels.
        circuit_changes: By dependency, scope (``fleet`` or ``process``), state.
        circuit_state: Processes by dependency, scope, state.
        fleet_strange: Without labels.
        held_back: By dependency, by (``circuit``, ``limit``, ``budget``, ``rate``).
        inflight: Running attempts by queue, priority.
    """

    def __init__(self) -> None:
        self._families: list[Family[Any]] = []
        self.jobs = self._counter("shifter_jobs_total")
        self.attempts = self._counter("shifter_attempts_total")
        self.job_wait = self._histogram("shifter_job_wait_seconds")
        self.job_duration = self._histogram("shifter_job_duration_seconds")
        self.dead_letters = self._counter("shifter_dead_letters_total")
        self.misfits = self._counter("shifter_misfits_total")
        self.headers_dropped = self._counter("shifter_headers_dropped_total")
        self.records_lost = self._counter("shifter_records_lost_total")
        self.claim_store_errors = self._counter("shifter_claim_store_errors_total")
        self.circuit_changes = self._counter("shifter_circuit_changes_total")
        self.held_back = self._counter("shifter_held_back_total")
        self.fleet_strange = self._counter("shifter_fleet_strange_total")
        self.circuit_state = self._gauge("shifter_circuit_state")
        self.inflight = self._gauge("shifter_inflight")
        self.waiting_bytes = self._gauge("shifter_waiting_bytes")

    def snapshot(self) -> Snapshot:
        """All readings now, as plain data."""
        return {family.spec.name: family.read() for family in self._families}

    def _counter(self, name: str) -> Family[Counter]:
        family = Family(SPECS[name], Counter)
        self._families.append(family)
        return family

    def _gauge(self, name: str) -> Family[Gauge]:
        family = Family(SPECS[name], Gauge)
        self._families.append(family)
        return family

    def _histogram(self, name: str) -> Family[Histogram]:
        spec = SPECS[name]
        family = Family(spec, lambda: Histogram(spec.bounds))
        self._families.append(family)
        return family
