"""What the same backend does under simpler rules, on the same arrivals.

- ``none``: everything starts at once and shares the slots; when more run than there are
  slots, all of them become slower. Nobody gives up or asks again, which is kind.
- ``fifo``: one queue without end, in order of arrival.
- ``shed``: no queue; what comes while all slots are busy is refused.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from examples.inference.trace import Arrival


class Served(NamedTuple):
    """What became of one request.

    Attributes:
        arrival: The request.
        wait_s: Seconds it took longer than it needs; ``None`` if it was not served.
        busy: The spans in which it kept slots busy: begin, end, slots.
        answer: ``ran``, ``deferred``, ``degraded``, ``shed`` or ``expired``.
        reason: Of the answer.
    """

    arrival: Arrival
    wait_s: float | None
    busy: tuple[tuple[float, float, float], ...]
    answer: str
    reason: str = ""


def none(arrivals: Sequence[Arrival], slots: int) -> list[Served]:
    """Processor sharing: each of ``n`` gets ``slots / n`` of one slot, at most one."""
    waiting = [*sorted(arrivals), None]
    running: list[tuple[float, int, Arrival]] = []
    served: list[Served] = []
    now = work = 0.0
    for number, arrival in enumerate(waiting):
        until = float("inf") if arrival is None else arrival.at_s
        while running:
            speed = min(1.0, slots / len(running))
            ends_at = now + max(0.0, running[0][0] - work) / speed
            if ends_at > until:
                break
            work, now = running[0][0], ends_at
            _, _, done = heapq.heappop(running)
            took_s = now - done.at_s
            share = done.service_s / took_s if took_s > 0 else 0.0
            span = (done.at_s, now, share)
            wait_s = max(0.0, took_s - done.service_s)
            served.append(Served(done, wait_s, (span,), "ran"))
        if arrival is not None:
            if running:
                work += (until - now) * min(1.0, slots / len(running))
            now = until
            heapq.heappush(running, (work + arrival.service_s, number, arrival))
    return served


def fifo(arrivals: Sequence[Arrival], slots: int) -> list[Served]:
    """Whoever came first is first."""
    free_at = [0.0] * slots
    served = []
    for arrival in sorted(arrivals):
        start = max(arrival.at_s, heapq.heappop(free_at))
        end = start + arrival.service_s
        heapq.heappush(free_at, end)
        served.append(
            Served(arrival, start - arrival.at_s, ((start, end, 1.0),), "ran")
        )
    return served


def shed(arrivals: Sequence[Arrival], slots: int) -> list[Served]:
    """A slot at once, or a refusal."""
    busy: list[float] = []
    served = []
    for arrival in sorted(arrivals):
        while busy and busy[0] <= arrival.at_s:
            heapq.heappop(busy)
        if len(busy) >= slots:
            served.append(Served(arrival, None, (), "shed", "all slots busy"))
            continue
        end = arrival.at_s + arrival.service_s
        heapq.heappush(busy, end)
        served.append(Served(arrival, 0.0, ((arrival.at_s, end, 1.0),), "ran"))
    return served


RIVALS: dict[str, Callable[[Sequence[Arrival], int], list[Served]]] = {
    "none": none,
    "fifo": fifo,
    "shed": shed,
}
