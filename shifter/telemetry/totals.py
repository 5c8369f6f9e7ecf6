"""The metrics of all processes of a supervisor, added up.

Children send their readings, the supervisor keeps the last of each. What a process
counted stays in the sum after its end, so that no counter ever falls; what it had
running does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from shifter.telemetry.metric import SPECS, Bars, Reading, Snapshot


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
