"""Readings as Prometheus' text, and as a collector of prometheus-client.

prometheus-client's ``generate_latest`` takes 0.6 s for the 65,000 samples of 1,000
lanes. Here the text of a series is kept until its reading changes, and the text before
each number is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from time import perf_counter
from typing import Final, NamedTuple, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shifter.telemetry.metric import BUILD_INFO, SCRAPE, SERVICE_SPECS, HasMetrics
from shifter.telemetry.series import Bars, Reading, Snapshot, Spec

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What `render` returns, for the HTTP header."""

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class _Series(NamedTuple):
    """The text of one series.

    Attributes:
        starts: What precedes each number.
        reading: The reading that ``text`` shows.
        text: Its lines.
    """

    starts: list[str]
    reading: Reading
    text: str


class Exposition(Collector):
    """The metrics of one process or of several, read anew for each scrape.

    Args:
        read: Called at each scrape, in the thread that scrapes.
        specs: The metrics that are shown, by name.
        version: Shown by ``shifter_build_info``.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        specs: Mapping[str, Spec],
        *,
        version: str,
    ) -> None:
        self._read, self._specs = read, {s.name: s for s in (BUILD_INFO, SCRAPE)}
        self._specs |= specs
        self._build: Snapshot = {BUILD_INFO.name: {(version,): 1}}
        self._took_s: float | None = None
        self._known: dict[str, dict[tuple[str, ...], _Series]] = {}
        self._heads = {
            name: f"# HELP {name} {spec.help}\n# TYPE {name} {spec.kind}\n"
            for name, spec in self._specs.items()
        }

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        began_at = perf_counter()
        snapshot, parts = self._snapshot(), []
        for name, spec in self._specs.items():
            known = self._known.get(name, {})
            # Series that are gone are forgotten.
            self._known[name] = now = {
                values: _series(spec, values, reading, known.get(values))
                for values, reading in snapshot.get(name, {}).items()
            }
            parts.append(self._heads[name])
            parts += [series.text for series in now.values()]
        text = "".join(parts).encode()
        self._took_s = perf_counter() - began_at
        return text

    def describe(self) -> list[Metric]:
        """Names for a registry, without reading anything."""
        return [_family(spec) for spec in self._specs.values()]

    def collect(self) -> Iterator[Metric]:
        """All metrics now, for a registry of prometheus-client."""
        snapshot = self._snapshot()
        for name, spec in self._specs.items():
            family = _family(spec)
            for values, reading in sorted(snapshot.get(name, {}).items()):
                _add(family, spec, values, reading)
            yield family

    def _snapshot(self) -> Snapshot:
        snapshot = {**self._build, **self._read()}
        if self._took_s is not None:
            snapshot[SCRAPE.name] = {(): self._took_s}
        return snapshot


def of_service(app: HasMetrics) -> Exposition:
    """The metrics of a service's process."""
    try:
        installed = version("shifter-queue")
    except PackageNotFoundError:
        installed = "unknown"
    return Exposition(app.metrics, SERVICE_SPECS, version=installed)


def _series(
    spec: Spec, values: tuple[str, ...], reading: Reading, known: _Series | None
) -> _Series:
    if known is not None and known.reading == reading:
        return known
    starts = _starts(spec, values) if known is None else known.starts
    if not isinstance(reading, Bars):
        return _Series(starts, reading, f"{starts[0]}{float(reading)}\n")
    sums = list(accumulate(reading.counts))
    numbers = [*sums, sums[-1], reading.total]
    pairs = zip(starts, numbers, strict=True)
    text = "".join([f"{start}{number}\n" for start, number in pairs])
    return _Series(starts, reading, text)


def _starts(spec: Spec, values: tuple[str, ...]) -> list[str]:
    """What precedes each number of a series: names and labels."""
    pairs = sorted(zip(spec.labels, values, strict=True))
    labels = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs]
    inner = _inner(labels)
    if spec.kind != "histogram":
        return [spec.name + inner]
    edges = [f'le="{edge}"' for edge in (*spec.bounds, "+Inf")]
    buckets = [f"{spec.name}_bucket{_inner([*labels, edge])}" for edge in edges]
    return [*buckets, f"{spec.name}_count{inner}", f"{spec.name}_sum{inner}"]


def _inner(labels: Sequence[str]) -> str:
    return f"{{{','.join(labels)}}} " if labels else " "


_FAMILIES: Final[dict[str, type[Family]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _family(spec: Spec) -> Family:
    return _FAMILIES[spec.kind](spec.name, spec.help, labels=spec.labels)


def _add(family: Family, spec: Spec, values: tuple[str, ...], reading: Reading) -> None:
    if isinstance(family, HistogramMetricFamily):
        if not isinstance(reading, Bars):
            raise TypeError(f"{spec.name} is a histogram, not {reading!r}")
        edges = [*map(str, spec.bounds), "+Inf"]
        sums = accumulate(reading.counts)
        buckets = list(zip(edges, sums, strict=True))
        family.add_metric(values, buckets=buckets, sum_value=reading.total)
    elif not isinstance(reading, Bars):
        family.add_metric(values, reading)
