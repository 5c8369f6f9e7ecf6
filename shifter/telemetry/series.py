"""Counters, gauges and histograms of a process, as plain numbers.

prometheus-client's own counters take a lock and its ``Histogram.observe`` costs about
1.5 µs; at 35,000 jobs/s that would be a tenth of a worker. These are plain integers,
written by one thread at a time; a worker writes batch by batch. A scrape converts them
to Prometheus' text (`shifter.telemetry.exposition`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

MAX_SERIES: Final = 1_000
"""Label combinations kept of one metric; further ones are counted as ``other``."""


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
        across: What one page shows of a gauge that several processes have: the ``sum``
            or the ``max`` of it. Counters and histograms are summed.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()
    across: str = "sum"

    @property
    def unit(self) -> str:
        """``seconds``, ``bytes`` or ``count``: a name ends with its unit.

        >>> Spec("shifter_spool_bytes", "gauge", (), "").unit
        'bytes'
        """
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in _UNITS else "count"


_UNITS: Final = ("seconds", "bytes")


class Counter:
    """Only grows. Owned by one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0

    def inc(self, count: float = 1) -> None:
        """Add ``count``, >= 0."""
        self.value += count

    def reach(self, count: float) -> None:
        """Replace by what was counted elsewhere; nothing if that is less."""
        self.value = max(self.value, count)

    def read(self) -> Reading:
        """The count so far."""
        return self.value


class Gauge:
    """Goes up and down. Owned by one thread."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0

    def set(self, value: float) -> None:
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

    def clear(self) -> None:
        """Forget all series, before gauges are set to what there is now."""
        self._series.clear()

    def read(self) -> dict[tuple[str, ...], Reading]:
        """All series."""
        return {values: series.read() for values, series in self._series.copy().items()}

    def _add(self, values: tuple[str, ...]) -> C:
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} has the labels {self.spec.labels}")
        if len(self._series) >= MAX_SERIES:
            values = ("other",) * len(values)
        return self._series.setdefault(values, self._make())


class LabelValues:
    """Bounds the values of a label. Owned by one thread.

    Args:
        most: How many values keep their name; those that come later are ``other``.
    """

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """The value, or ``other``."""
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return "other"
        self._known.add(value)
        return value
