"""What the same backend does under simpler rules, on the same arrivals.

- ``none``: everything starts at once and shares the slots; when more run than there are
  slots, all of them become slower. No caller gives up or asks again, which is kind.
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


class _Sharing:
    """Slots shared evenly: each of ``n`` gets ``slots / n`` of one, at most one.

    ``work`` is what a request that is there all the time has got done; one that came at
    ``work`` is done when it has grown by what it needs.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.now = self.work = 0.0
        self.by_minute: list[float] = []

    def speed(self, running: int) -> float:
        return min(1.0, self._slots / running) if running else 0.0

    def advance(self, until_s: float, running: int) -> None:
        """Let time pass; keeps how much was done by the end of each minute."""
        speed = self.speed(running)
        while (end_s := 60.0 * (len(self.by_minute) + 1)) <= until_s:
            self.work += (end_s - self.now) * speed
            self.now = end_s
            self.by_minute.append(self.work)
        self.work += (until_s - self.now) * speed
        self.now = until_s

    def spans(
        self, began_at: float, work_before: float
    ) -> tuple[tuple[float, float, float], ...]:
        """How much of a slot each request had in each minute until now."""
        found = []
        while began_at < self.now:
            minute = int(began_at // 60)
            is_past = minute < len(self.by_minute)
            end_s = min(self.now, 60.0 * (minute + 1))
            work = self.by_minute[minute] if is_past else self.work
            found.append((began_at, end_s, (work - work_before) / (end_s - began_at)))
            began_at, work_before = end_s, work
        return tuple(found)


def none(arrivals: Sequence[Arrival], slots: int) -> list[Served]:
    """Everything starts at once and shares the slots."""
    sharing, served = _Sharing(slots), list[Served]()
    running: list[tuple[float, int, float, Arrival]] = []
    for number, arrival in enumerate([*sorted(arrivals), None]):
        until_s = float("inf") if arrival is None else arrival.at_s
        while running:
            left = max(0.0, running[0][0] - sharing.work)
            ends_at = sharing.now + left / sharing.speed(len(running))
            if ends_at > until_s:
                break
            sharing.advance(ends_at, len(running))
            _, _, before, done = heapq.heappop(running)
            wait_s = max(0.0, ends_at - done.at_s - done.service_s)
            spans = sharing.spans(done.at_s, before)
            served.append(Served(done, wait_s, spans, "ran"))
        if arrival is not None:
            sharing.advance(until_s, len(running))
            entry = (sharing.work + arrival.service_s, number, sharing.work, arrival)
            heapq.heappush(running, entry)
    return served


def fifo(arrivals: Sequence[Arrival], slots: int) -> list[Served]:
    """The request that came first is served first."""
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
