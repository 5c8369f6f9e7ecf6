"""Readings as Prometheus' text, by prometheus-client, in a registry of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shifter.telemetry.metric import BUILD_INFO
from shifter.telemetry.series import Bars, Reading, Snapshot, Spec

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What `render` returns, for the HTTP header."""


class Exposition(Collector):
    """Collects readings when scraped.

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
        self._read, self._specs, self._version = read, specs, version
        # Never the process-wide registry: a service has metrics of its own there.
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def describe(self) -> list[Metric]:
        """Names for the registry, without reading anything."""
        return [_family(spec) for spec in self._specs.values()]

    def collect(self) -> Iterator[Metric]:
        """All metrics now."""
        build = _family(BUILD_INFO)
        _add(build, BUILD_INFO, (self._version,), 1)
        yield build
        snapshot = self._read()
        for name, spec in self._specs.items():
            family = _family(spec)
            for values, reading in sorted(snapshot.get(name, {}).items()):
                _add(family, spec, values, reading)
            yield family


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
