"""A set of metrics of one process, declared one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from shifter.telemetry.series import (
    C,
    Counter,
    Family,
    Gauge,
    Histogram,
    Snapshot,
    Spec,
)


class MetricSet:
    """Base of the sets; each declares its metrics when it is made.

    One thread writes at a time; any thread reads.
    """

    def __init__(self) -> None:
        self._families: list[Family[Any]] = []

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

    def _gauge(
        self,
        name: str,
        labels: tuple[str, ...],
        text: str,
        *,
        across: Literal["sum", "max"] = "sum",
    ) -> Family[Gauge]:
        return self._add(Spec(name, "gauge", labels, text, across=across), Gauge)

    def _histogram(
        self, name: str, labels: tuple[str, ...], text: str, bounds: tuple[float, ...]
    ) -> Family[Histogram]:
        spec = Spec(name, "histogram", labels, text, bounds)
        return self._add(spec, lambda: Histogram(bounds))

    def _add(self, spec: Spec, make: Callable[[], C]) -> Family[C]:
        family = Family(spec, make)
        self._families.append(family)
        return family
