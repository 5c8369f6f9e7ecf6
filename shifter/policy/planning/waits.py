"""How long jobs wait for a slot: the fewest slots with which they start in time.

A slot does one job at a time. Arrivals at a constant rate are independent and slots
take exponential times: the queue M/M/c, whose waits are longer than those of jobs that
all take the same time. Source: Erlang, 1917; the recursion of the loss formula is in
Cooper, *Introduction to Queueing Theory*, 1981. A recording is played, first come first
served, with jobs of one length.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_COUNTED_SLOTS: Final = 1_000_000
"""Above it the recursion takes seconds, and its result is the mean plus some roots."""
_ROOTS: Final = 4.0


class Slo(NamedTuple):
    """Which part of the jobs starts in time.

    Attributes:
        share: Part of the jobs, 0 < share < 1.
        wait_s: Longest wait from due to start, > 0.
    """

    share: float
    wait_s: float


def share_in_time(slots: int, *, per_s: float, job_s: float, wait_s: float) -> float:
    """Part of the jobs that start within ``wait_s``, at a constant rate. Pure."""
    offered = per_s * job_s
    for found, blocked in _blocked(offered):
        if found == slots:
            return _in_time(slots, offered, blocked, job_s, wait_s)
    raise AssertionError


def fewest_slots(slo: Slo, *, per_s: float, job_s: float) -> int:
    """The fewest slots that hold the SLO at a constant rate. Pure."""
    offered = per_s * job_s
    if offered > _COUNTED_SLOTS:
        # Source: square-root staffing, Halfin and Whitt, 1981.
        return math.ceil(offered + _ROOTS * math.sqrt(offered))
    for slots, blocked in _blocked(offered):
        if slots <= offered:
            continue
        if _in_time(slots, offered, blocked, job_s, slo.wait_s) >= slo.share:
            return slots
    raise AssertionError


def _blocked(offered: float) -> Iterator[tuple[int, float]]:
    """Each number of slots and the loss probability with it, from one slot on."""
    blocked, slots = 1.0, 0
    while True:
        slots += 1
        blocked = offered * blocked / (slots + offered * blocked)
        yield slots, blocked


def _in_time(
    slots: int, offered: float, blocked: float, job_s: float, wait_s: float
) -> float:
    if slots <= offered:
        return 0.0
    waits = blocked / (1 - offered / slots * (1 - blocked))
    return 1 - waits * math.exp(-(slots - offered) / job_s * wait_s)


def recorded_in_time(
    instants: Sequence[float], slots: int, *, job_s: float, wait_s: float
) -> float:
    """Part of a recording's jobs that start within ``wait_s``. Pure."""
    free = [0.0] * min(slots, len(instants))
    late = 0
    for at_s in instants:
        start_s = max(free[0], at_s)
        heapq.heapreplace(free, start_s + job_s)
        late += start_s - at_s > wait_s
    return 1 - late / len(instants)


def fewest_slots_recorded(slo: Slo, instants: Sequence[float], *, job_s: float) -> int:
    """The fewest slots that hold the SLO for a recording. Pure."""

    def holds(slots: int) -> bool:
        found = recorded_in_time(instants, slots, job_s=job_s, wait_s=slo.wait_s)
        return found >= slo.share

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
