"""Other autoscalers, by their documented algorithms and defaults.

- Kubernetes' horizontal pod autoscaler ("Horizontal Pod Autoscaling", algorithm
  details and default behaviour): decides every 15 s; leaves a number alone that differs
  by less than a tenth; at most doubles or adds four pods within 15 s; falls to the
  largest number of the last 300 s. Pods that start count as unused when a number rises.
- KEDA on the lag of Kafka ("Apache Kafka" scaler): the lag divided by ``lagThreshold``,
  which that autoscaler takes as an average value. KEDA itself switches between none and
  one: on as soon as there is lag, off after ``cooldownPeriod`` (300 s) without.

What is kind to them: the lag of a moment is known at once and exactly, jobs that ended
out of order do not hold it up, it is one number over all topics of the group, and there
are partitions enough. A worker whose slots are busy uses all of its processor request.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from examples.scaling.fleet import EVERY_S, Reading

TOLERANCE: Final = 0.1
WINDOW_S: Final = 300.0
COOLDOWN_S: Final = 300.0
_PODS: Final = 4


class Stabilised:
    """How far a number may move: the default ``behavior`` of an autoscaler."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._recent: deque[tuple[float, int]] = deque()

    def __call__(self, now_s: float, current: int, wanted: int) -> int:
        """The number that is set, >= 0."""
        self._recent.append((now_s, wanted))
        while self._recent[0][0] < now_s - self._window_s:
            self._recent.popleft()
        if wanted < current:
            return min(current, max(n for _, n in self._recent))
        return min(wanted, max(2 * current, current + _PODS))


def average_value(current: int, total: float, target: float) -> int:
    """Pods for an external metric with a target of type ``AverageValue``.

    >>> average_value(10, 52.0, 5.0), average_value(10, 60.0, 5.0)
    (10, 12)
    """
    if current and abs(total / (target * current) - 1) <= TOLERANCE:
        return current
    return math.ceil(total / target)


def utilisation(ready: int, starting: int, used: float, target: float) -> int:
    """Pods for the use of a processor.

    Args:
        ready: Pods that are ready.
        starting: Pods that are not; they count as unused when the number would rise.
        used: What the ready ones use, in pods.
        target: Part of a pod that should be used.

    >>> utilisation(10, 0, 9.0, 0.6), utilisation(10, 5, 9.0, 0.6)
    (15, 15)
    """
    current = ready + starting
    if not ready:
        return current
    ratio = used / (target * ready)
    if ratio <= 1 or not starting:
        keeps = abs(ratio - 1) <= TOLERANCE
        return current if keeps else math.ceil(ratio * ready)
    ratio = used / (target * current)
    if ratio <= 1 + TOLERANCE:
        return current
    return math.ceil(ratio * current)


class Lag:
    """KEDA on lag.

    Args:
        threshold: ``lagThreshold``: records a worker.
        floor: ``minReplicaCount``.
        ceiling: ``maxReplicaCount``.
    """

    def __init__(self, threshold: int, floor: int, ceiling: int) -> None:
        self._threshold, self._floor, self._ceiling = threshold, floor, ceiling
        self._stabilised = Stabilised()
        self._active_at = 0.0

    def __call__(self, reading: Reading) -> int:
        """The number of workers."""
        now_s, current = reading.now_s, reading.workers
        lag = sum(c.waiting + c.running for c in (reading.high, reading.low))
        if lag:
            self._active_at = now_s
        if not self._floor and not lag and now_s - self._active_at >= COOLDOWN_S:
            return 0
        if not current:
            return 1 if lag else 0
        wanted = average_value(current, lag, self._threshold)
        wanted = min(max(wanted, self._floor, 1), self._ceiling)
        return self._stabilised(now_s, current, wanted)


class Processor:
    """The horizontal pod autoscaler on the use of a processor.

    Args:
        target: Part of the request that should be used, in (0, 1].
        slots: Of a worker.
        floor: ``minReplicas``.
        ceiling: ``maxReplicas``.
    """

    def __init__(self, target: float, slots: int, floor: int, ceiling: int) -> None:
        self._target, self._slots = target, slots
        self._floor, self._ceiling = floor, ceiling
        self._stabilised = Stabilised()

    def __call__(self, reading: Reading) -> int:
        """The number of workers."""
        busy_s = reading.high.busy_s + reading.low.busy_s
        used = busy_s / EVERY_S / self._slots
        wanted = utilisation(reading.ready, reading.starting, used, self._target)
        wanted = min(max(wanted, self._floor), self._ceiling)
        return self._stabilised(reading.now_s, reading.workers, wanted)


class Fixed:
    """A number that never changes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self, _: Reading) -> int:
        """The number of workers."""
        return self.workers
