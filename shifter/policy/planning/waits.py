"""How long jobs wait for a slot: the fewest workers with which they start in time.

A slot does one job at a time. Each worker has a queue of its own, as the partitions of
a lane have on Kafka: a free slot of one worker helps no job of another. Arrivals at a
constant rate are independent and slots take exponential times: a queue M/M/c for each
worker, whose waits are longer than those of jobs that all take the same time. Source:
Erlang, 1917; the recursion of the loss formula is in Cooper, *Introduction to Queueing
Theory*, 1981. A recording is played, first come first served, with jobs of one length.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

_WORD: Final = 2**64


class Slo(NamedTuple):
    """Which part of the jobs starts in time.

    Attributes:
        share: Part of the jobs, 0 < share < 1.
        wait_s: Longest wait from due to start, > 0.
    """

    share: float
    wait_s: float


class Slots(NamedTuple):
    """The slots of one worker that work at the same time.

    Attributes:
        number: How many, >= 1.
        job_s: For how long a job occupies one, seconds, > 0.
    """

    number: int
    job_s: float


def share_in_time(slots: Slots, *, per_s: float, wait_s: float) -> float:
    """Part of one worker's jobs that start within ``wait_s``, at a constant rate. Pure.

    >>> share_in_time(Slots(1, 0.1), per_s=20, wait_s=1.0)
    0.0
    """
    offered = per_s * slots.job_s
    if slots.number <= offered:
        return 0.0
    blocked = 1.0
    for count in range(1, slots.number + 1):
        blocked = offered * blocked / (count + offered * blocked)
    waits = blocked / (1 - offered / slots.number * (1 - blocked))
    return 1 - waits * math.exp(-(slots.number - offered) / slots.job_s * wait_s)


def fewest_workers(slo: Slo, slots: Slots, *, per_s: float) -> int:
    """The fewest workers that hold the SLO at a constant rate of all jobs. Pure."""

    def holds(workers: int) -> bool:
        share = share_in_time(slots, per_s=per_s / workers, wait_s=slo.wait_s)
        return share >= slo.share

    return _fewest(holds)


def recorded_in_time(
    instants: Sequence[float], workers: int, slots: Slots, *, wait_s: float
) -> float:
    """Part of a recording's jobs that start within ``wait_s``. Pure."""
    free = [[0.0] * slots.number for _ in range(workers)]
    late = 0
    for number, at_s in enumerate(instants):
        own = free[_mixed(number) * workers // _WORD]
        start_s = max(own[0], at_s)
        heapq.heapreplace(own, start_s + slots.job_s)
        late += start_s - at_s > wait_s
    return 1 - late / len(instants)


def _mixed(number: int) -> int:
    """A word that looks drawn at random. Source: SplitMix64, Steele et al., 2014."""
    word = (number + 1) * 0x9E3779B97F4A7C15 % _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % _WORD
    return word ^ (word >> 31)


def fewest_workers_recorded(slo: Slo, slots: Slots, instants: Sequence[float]) -> int:
    """The fewest workers that hold the SLO for a recording. Pure."""

    def holds(workers: int) -> bool:
        found = recorded_in_time(instants, workers, slots, wait_s=slo.wait_s)
        return found >= slo.share

    return _fewest(holds)


def _fewest(holds: Callable[[int], bool]) -> int:
    most = 1
    while not holds(most):
        most *= 2
    least = most // 2 + 1
    while least < most:
        middle = (least + most) // 2
        if holds(middle):
            most = middle
        else:
            least = middle + 1
    return most
