"""What a fleet is to play, and the history of it: calls, changes of circuits, times."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What is played.

    Attributes:
        redis_url: Where the fleet agrees.
        namespace: Of the fleet.
        processes: How many.
        per_s: First attempts a second, of all of them together.
        seconds: How long.
        down: Seconds from and to which every call fails.
        fail_ratio: Share of calls that fail all the time.
        took_s: How long a call takes.
        is_naive: Retry every failure, without a budget.
        attempts: Most attempts of one job; layers that each retry multiply theirs.
        dependencies: How many there are; calls are spread over them.
        workers: Members of the fleet in each process; a process for each costs more.
    """

    redis_url: str
    namespace: str
    processes: int = 8
    per_s: float = 5_000
    seconds: float = 20.0
    down: Sequence[tuple[float, float]] = ()
    fail_ratio: float = 0.0
    took_s: float = 0.02
    is_naive: bool = False
    attempts: int = 4
    dependencies: int = 1
    workers: int = 1


class Call(msgspec.Struct, array_like=True):
    """One call as the dependency saw it: seconds since the start, retry, probe."""

    at_s: float
    is_extra: bool
    is_probe: bool


class Turn(msgspec.Struct, array_like=True):
    """A member learnt that the fleet's circuit changed."""

    at_s: float
    member: str
    generation: int
    state: str


class Told(msgspec.Struct):
    """What one process wrote down.

    Attributes:
        calls: Made by it.
        decision_us: Every hundredth quantile of its decisions, and the last.
        sync_ms: Of each sync that was answered, from its report to what was learnt.
        round_trip_ms: The store's part of it.
        cost_ms: The processor's time of each, in the process.
        turns: Changes of circuits, as each member learnt.
    """

    calls: list[Call]
    decision_us: list[float]
    sync_ms: list[float]
    round_trip_ms: list[float]
    cost_ms: list[float]
    turns: list[Turn]


class Played(NamedTuple):
    """All of it: calls in order of time."""

    calls: list[Call]
    told: list[Told]

    @property
    def turns(self) -> list[Turn]:
        """Changes of circuits, those of one member in order of time."""
        return [turn for told in self.told for turn in told.turns]

    def per_s(self, begin_s: float, end_s: float) -> float:
        """Calls a second in a span."""
        found = sum(begin_s <= call.at_s < end_s for call in self.calls)
        return found / (end_s - begin_s)

    def busiest(self, begin_s: float, end_s: float) -> float:
        """Calls a second of the busiest half second within a span."""
        steps = int((end_s - begin_s - 0.5) * 10) + 1
        starts = [begin_s + step / 10 for step in range(steps)]
        return max(self.per_s(at_s, at_s + 0.5) for at_s in starts)


def most_at_once(calls: Sequence[Call], took_s: float) -> int:
    """How many of these calls were under way at the same time."""
    ends: list[float] = []
    most = 0
    for call in calls:
        while ends and ends[0] <= call.at_s:
            heapq.heappop(ends)
        heapq.heappush(ends, call.at_s + took_s)
        most = max(most, len(ends))
    return most


def worst_excess(
    calls: Sequence[Call], *, ratio: float, floor_per_s: float, window_s: float = 10.0
) -> float:
    """Retries of the worst window over what it allows; 0.05 is 5 % too many."""
    worst, begin, firsts, retries = -1.0, 0, 0, 0
    for call in calls:
        firsts += not call.is_extra
        retries += call.is_extra
        while calls[begin].at_s <= call.at_s - window_s:
            firsts -= not calls[begin].is_extra
            retries -= calls[begin].is_extra
            begin += 1
        allowed = ratio * firsts + floor_per_s * window_s
        worst = max(worst, retries / allowed - 1)
    return worst
