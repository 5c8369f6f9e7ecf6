"""How much of a worker process its lanes use, and how long its start took.

A scaling signal needs the rate of one worker, which is known only while it is busy. The
utilisation law gives it at any load: the rate at full use is the rate now divided by
the part of the process that is in use. Source: Denning and Buzen, "The Operational
Analysis of Queueing Network Models", 1978.

What a process has are slots and one processor core. The one that is used more is its
bottleneck, and each lane has its share of that.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from shifter.telemetry.series import Bars
from shifter.work.drain import Drain

_IDLE_CPU: Final = 0.25
"""Use of the processor below which it is not counted: a process without jobs uses some
percent of a core for its heartbeats and its fetches."""


def shares(
    held_s: Mapping[str, float], *, slots: int, passed_s: float, cpu_s: float
) -> dict[str, float]:
    """What lanes use of a process, from 0 to 1 together. Pure.

    Args:
        held_s: Seconds that attempts held slots, by lane.
        slots: All slots, >= 1.
        passed_s: Seconds in which they did, > 0.
        cpu_s: Seconds that the process computed meanwhile.

    >>> shares({"a": 5.0, "b": 15.0}, slots=10, passed_s=5.0, cpu_s=0.1)
    {'a': 0.1, 'b': 0.3}
    >>> shares({"a": 5.0}, slots=10, passed_s=5.0, cpu_s=4.0)
    {'a': 0.8}
    """
    total_s = sum(held_s.values())
    if total_s <= 0:
        return {}
    cpu = cpu_s / passed_s
    used = max(total_s / (slots * passed_s), cpu if cpu >= _IDLE_CPU else 0.0)
    return {
        lane: round(min(1.0, used) * one_s / total_s, 6)
        for lane, one_s in held_s.items()
        if one_s > 0
    }


class UsageMeter:
    """Measures what the lanes of one drain use. Owned by its event loop.

    Args:
        drain: What runs.
    """

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._topics = {
            (lane.queue, lane.priority.value): topic
            for topic, lane in drain.lanes.items()
        }
        self._since: float = drain.clock.monotonic()
        self._rates_at = drain.observer.rates_at
        self._cpu_s, self._before = time.process_time(), self._held_s(self._since)
        self._found: dict[str, float] = {}

    def read(self) -> dict[str, float]:
        """What each lane used while the rates of the observer were measured last.

        See `shares`; lanes that used nothing are left out.
        """
        observer, now = self._drain.observer, self._drain.clock.monotonic()
        if observer.rates_at == self._rates_at or now <= self._since:
            return self._found
        held_s, cpu_s = self._held_s(now), time.process_time()
        self._found = shares(
            {lane: held - self._before.get(lane, 0.0) for lane, held in held_s.items()},
            slots=self._drain.concurrency,
            passed_s=now - self._since,
            cpu_s=cpu_s - self._cpu_s,
        )
        self._since, self._rates_at = now, observer.rates_at
        self._cpu_s, self._before = cpu_s, held_s
        return self._found

    def _held_s(self, now: float) -> dict[str, float]:
        """Seconds that attempts have held slots since the start, by lane."""
        found: defaultdict[str, float] = defaultdict(float)
        drain = self._drain
        for labels, bars in drain.observer.metrics.job_duration.read().items():
            topic = self._topics.get((labels[0], labels[1]))
            if topic is not None and isinstance(bars, Bars):
                found[topic] += bars.total
        for attempt in drain.progress().attempts:
            found[attempt.item.delivery.topic] += max(0.0, now - attempt.started_at)
        return found
