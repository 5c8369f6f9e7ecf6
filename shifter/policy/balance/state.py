"""What is known of one endpoint, and the load that a call would find there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from shifter.model.endpoint import Endpoint
from shifter.policy.balance.ejection import Health
from shifter.policy.balance.latency import PeakEwma
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.balance.policy import BalancePolicy, Choice

_UNKNOWN: Final = 1e9
"""Load of an endpoint whose first call is under way: the next calls go elsewhere.
Source: the penalty of Finagle's ``PeakEwma``."""

_LEAST_PART: Final = 0.1
"""Part of its weight that a new endpoint begins with. Source: Envoy's
``min_weight_percent``."""

_RANK: Final = {kind: rank for rank, kind in enumerate(MarkKind)}


class EndpointState:
    """One endpoint as this process sees it. Belongs to one thread.

    Args:
        endpoint: The endpoint.
        policy: How calls are shared.
        now: When it was added, monotonic seconds.

    Attributes:
        endpoint: The endpoint.
        inflight: Calls under way.
        latency: How long its calls take.
        health: How its calls ended.
        marks: Why it should get no calls, besides its own calls.
        is_withheld: Whether it gets no calls because of a mark.
        warm_from: When it began to be called, or to be called again.
        turn: Its next turn, in the time of round robin.
        silent_from: While calls are under way: when the last one ended, or the first
            one began if none has ended since.
    """

    __slots__ = (
        "_is_by_latency",
        "_warm_s",
        "endpoint",
        "health",
        "inflight",
        "is_withheld",
        "latency",
        "marks",
        "silent_from",
        "turn",
        "warm_from",
    )

    def __init__(self, endpoint: Endpoint, policy: BalancePolicy, now: float) -> None:
        self.endpoint, self.inflight, self.turn = endpoint, 0, 0.0
        self.latency = PeakEwma(policy.decay_ms / 1_000)
        self.health = Health()
        self.marks: dict[MarkKind, Mark] = {}
        self.is_withheld = False
        self.warm_from = self.silent_from = now
        self._warm_s = policy.slow_start_ms / 1_000
        self._is_by_latency = policy.choice is Choice.PEAK_EWMA

    @property
    def is_out(self) -> bool:
        """Whether it gets no calls, as far as enough others are left."""
        return self.is_withheld or bool(self.health.out_until)

    @property
    def out_until(self) -> float:
        """Monotonic seconds until which it gets no calls; 0 if it does."""
        ends = (mark.until for mark in self.marks.values() if self.is_withheld)
        return max(self.health.out_until, max(ends, default=0.0))

    @property
    def is_drained(self) -> bool:
        """Whether an operator drained it."""
        return MarkKind.DRAIN in self.marks

    @property
    def is_ejected(self) -> bool:
        """Whether it is out for a reason that counts for the share of ejections."""
        is_marked = self.is_withheld and not self.is_drained
        return self.health.is_ejected or is_marked

    @property
    def why(self) -> str:
        """Why it gets no calls, or got none when it last did."""
        first = min(self.marks.items(), default=None, key=lambda one: _RANK[one[0]])
        if first is None or (self.health.is_ejected and not self.is_drained):
            return self.health.why
        return first[1].why

    def weight(self, now: float) -> float:
        """Its weight; less during its slow start."""
        age = now - self.warm_from
        if age >= self._warm_s:
            return self.endpoint.weight
        return self.endpoint.weight * max(_LEAST_PART, age / self._warm_s)

    def begin(self, now: float) -> None:
        """Note that a call begins."""
        if not self.inflight:
            self.silent_from = now
        self.inflight += 1

    def ended(self, now: float) -> None:
        """Note that a call ended."""
        self.inflight -= 1
        self.silent_from = now

    def load(self, now: float) -> float:
        """What a call finds there now; the smaller, the sooner it is answered.

        A latency decays so that a slow endpoint is tried again, by one call: until that
        ends, the average of before counts. An endpoint that has calls and has not
        answered any of them for a while is at least so slow: it may have stalled.
        """
        load = self.inflight + 1.0
        if not self._is_by_latency:
            pass
        elif load == 1.0:
            load = self.latency.cost(now)
        else:
            last = self.latency.last
            load *= max(last, now - self.silent_from) if last else _UNKNOWN
        # Each choice asks two or four endpoints, so the usual case calls no function.
        if now - self.warm_from >= self._warm_s:
            return load / self.endpoint.weight
        return load / self.weight(now)


def least_loaded(
    states: Sequence[EndpointState], now: float, u: float
) -> EndpointState | None:
    """The one with the least load of a few; of equal ones, a random one.

    Args:
        states: The endpoints.
        now: Monotonic seconds.
        u: A random number from [0, 1).
    """
    begin = int(u * len(states))
    in_order = [*states[begin:], *states[:begin]]
    return min(in_order, key=lambda state: state.load(now), default=None)


def untried(states: list[EndpointState], tried: Collection[str]) -> list[EndpointState]:
    """Those that were not tried, or all if each was."""
    if not tried:
        return states
    return [one for one in states if one.endpoint.url not in tried] or states
