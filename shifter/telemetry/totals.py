"""Sums of the readings of several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shifter.telemetry.metric import SPECS
from shifter.telemetry.series import Bars, Reading, Snapshot


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
    """The readings of all, series by series: sums, or the largest (`Spec.across`)."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            found = total.setdefault(name, {})
            if SPECS[name].across == "max":
                _raise_to(found, series)
                continue
            for values, reading in series.items():
                found[values] = _plus(found.get(values), reading)
    return total


def _raise_to(
    found: dict[tuple[str, ...], Reading], series: Mapping[tuple[str, ...], Reading]
) -> None:
    for values, reading in series.items():
        found[values] = max(found.get(values, reading), reading)


def _plus(left: Reading | None, right: Reading) -> Reading:
    if left is None:
        return right
    if isinstance(left, Bars) and isinstance(right, Bars):
        counts = tuple(a + b for a, b in zip(left.counts, right.counts, strict=True))
        return Bars(counts, left.total + right.total)
    if isinstance(left, Bars) or isinstance(right, Bars):
        raise TypeError("a histogram and a number cannot be added")
    return left + right
