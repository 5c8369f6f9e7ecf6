"""Sums over a sliding window, in exact buckets.

A bucket counts what happened in one aligned slice of time; the window is the bucket of
now and those right before it. Nothing is smoothed: what a bucket holds does not depend
on how its calls were spread inside it, and it leaves the sum all at once.

A clock that goes back is taken to stand still. Source: Linkerd's and tower's windows of
ten buckets (an average that decays would weigh a burst by its shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """Settings of a window.

    Attributes:
        length_ms: The time it covers, a multiple of ``buckets``.
        buckets: Its slices, >= 1.

    Raises:
        ConfigError: A value is out of its range.
    """

    length_ms: int = 10_000
    buckets: int = 10

    def __post_init__(self) -> None:
        check_at_least("buckets", self.buckets, 1)
        check_at_least("length_ms", self.length_ms, 1)
        if self.length_ms % self.buckets:
            want = f"must be a multiple of buckets ({self.buckets})"
            raise ConfigError("length_ms", self.length_ms, want)

    @property
    def bucket_ms(self) -> int:
        """Length of a slice."""
        return self.length_ms // self.buckets


class SlidingWindow:
    """Sums of some columns over the window. Belongs to one thread.

    Args:
        policy: Length and buckets.
        columns: How many numbers are summed, >= 1.
    """

    __slots__ = (
        "_bucket_ms",
        "_filled",
        "_next_ms",
        "_ring",
        "_row",
        "_slice",
        "_totals",
    )

    def __init__(self, policy: WindowPolicy, columns: int) -> None:
        self._bucket_ms = policy.bucket_ms
        self._ring = [[0] * columns for _ in range(policy.buckets)]
        self._totals = [0] * columns
        self._slice = self._filled = -1
        self._next_ms = 0
        self._row = self._ring[0]

    def add(self, now_ms: int, column: int, amount: int = 1) -> None:
        """Add to the bucket of now.

        Args:
            now_ms: The time, monotonic.
            column: Which of the numbers, from 0.
            amount: How much, of either sign.
        """
        if now_ms >= self._next_ms:
            self._advance(now_ms)
        self._row[column] += amount
        self._totals[column] += amount

    def totals(self, now_ms: int) -> Sequence[int]:
        """The sums, a column each; valid until the next call."""
        if now_ms >= self._next_ms:
            self._advance(now_ms)
        return self._totals

    def clear(self) -> None:
        """Forget everything."""
        for row in self._ring:
            self._empty(row)

    def _advance(self, now_ms: int) -> None:
        """Empty the buckets that left the window; at most all of them."""
        size, current = len(self._ring), now_ms // self._bucket_ms
        if any(self._row):
            self._filled = self._slice
        # Behind the last that got something there is nothing to empty.
        last = min(self._filled, current - size)
        for index in range(self._slice - size + 1, last + 1):
            row = self._ring[index % size]
            if any(row):
                self._empty(row)
        self._slice, self._row = current, self._ring[current % size]
        self._next_ms = (current + 1) * self._bucket_ms

    def _empty(self, row: list[int]) -> None:
        for column, amount in enumerate(row):
            self._totals[column] -= amount
            row[column] = 0
