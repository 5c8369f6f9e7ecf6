"""The metrics of a process, their names, and their sums over processes.

prometheus-client's own counters take a lock and its ``Histogram.observe`` costs about
1.5 µs; at 35,000 jobs/s that would be a tenth of a worker. These are plain integers,
written by one thread and batch by batch; a scrape converts them to Prometheus' text
(`shifter.telemetry.exposition`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
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

    def observe_many(self, values: Sequence[float]) -> None:
        """Count many values, for a third of the price of one by one."""
        # Sorting runs in C, after which each bucket is one search, not each value.
        ordered, done = sorted(values), 0
        for place, bound in enumerate(self._bounds):
            # A value equal to a bound belongs below it, as Prometheus defines ``le``.
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
        circuit_changes: The scope is ``fleet`` or ``process``.
        held_back: ``by`` is ``circuit``, ``limit``, ``budget`` or ``rate``.
        jobs: The outcome is ``done``, ``dead``, ``expired``, ``cancelled`` or
            ``discarded``.
        misfits: Job types beyond the first 50 are counted as ``other``.
    """

    def __init__(self) -> None:
        self._families: list[Family[Any]] = []
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
        self.circuit_changes = self._counter(
            "shifter_circuit_changes_total",
            ("dependency", "scope", "state"),
            "Changes of circuits that this process learnt of.",
        )
        self.circuit_state = self._gauge(
            "shifter_circuit_state",
            ("dependency", "scope", "state"),
            "Processes that see a circuit in this state; none until it changed once.",
        )
        self.fleet_strange = self._counter(
            "shifter_fleet_strange_total",
            (),
            "Values in the state store that were none of ours, and were passed over.",
        )
        self.held_back = self._counter(
            "shifter_held_back_total",
            ("dependency", "by"),
            "Starts that a dependency's circuit, limit, budget or rate put off.",
        )
        self.inflight = self._gauge("shifter_inflight", lane, "Attempts running now.")
        self.waiting_bytes = self._gauge(
            "shifter_waiting_bytes",
            (),
            "Payloads of fetched jobs that have not started, and 2 kB for each.",
        )

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


SPECS: Final = Metrics().specs
"""What each metric is, by its published name."""


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
