"""How many extra executions a dependency is asked to bear.

Every first attempt deposits a share of a retry; every extra execution (retry, replay,
hedge) withdraws a whole one; a floor keeps a quiet caller able to retry. So retries
can never multiply the load, however many layers retry: in every ``ttl_ms`` that ends
with a withdrawal, retries <= ratio x first attempts + floor.

To hold for every such stretch and not only for aligned ones, and for retries that are
made as late as their lease allows, withdrawals are remembered a bucket and a lease
longer than the ttl, and deposits up to a bucket shorter.

Lower priorities may not take the last of it: each leaves a part for those above, so
LOW starves first. A process takes several at once (a *lease*), so that no retry waits
for the store; what a lease does not spend is lost with it, never more than was granted.

Whole thousandths of a retry, so that a script of the store computes the same. Sources:
Finagle's and tower's retry budgets (ratio 0.2, 10 a second, ttl 10 s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.bounds import check_at_least
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

RETRY_MILLI = 1_000
"""Thousandths in a retry: a script of the store computes with whole numbers."""

_BUCKETS = 20
"""Slices of ``ttl_ms``: withdrawals are remembered a twentieth of it longer."""

_MOST_RATIO = 1_000
"""Largest ratio that is accepted: a larger one bounds nothing."""

_LEFT_MILLI = {
    Priority.CRITICAL: 0,
    Priority.HIGH: 100,
    Priority.NORMAL: 250,
    Priority.LOW: 500,
}
"""Thousandths of the budget that a priority leaves to those above it.

``LOW`` stops at one half of the budget, so its retries end before others notice.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPolicy:
    """Settings of a retry budget. Ratio 0 and floor 0 together forbid every retry.

    Attributes:
        ratio: Retries a first attempt earns, 0 or 0.001-1000.
        floor_per_s: Retries allowed whatever was earned, >= 0.
        ttl_ms: How long a deposit lasts, 1000-60000, in whole seconds.
        lease_ms: How long a process may keep what it took, 1-``ttl_ms``.

    Raises:
        ConfigError: A value is out of its range.
    """

    ratio: float = 0.2
    floor_per_s: int = 10
    ttl_ms: int = 10_000
    lease_ms: int = 500

    def __post_init__(self) -> None:
        is_number = isinstance(self.ratio, int | float)
        is_known = is_number and math.isfinite(self.ratio)
        is_whole = is_known and (self.ratio == 0 or self.ratio * RETRY_MILLI >= 1)
        if not is_whole or not 0 <= self.ratio <= _MOST_RATIO:
            want = f"use 0, or a number from 0.001 to {_MOST_RATIO}"
            raise ConfigError("ratio", self.ratio, want)
        check_at_least("floor_per_s", self.floor_per_s, 0)
        if self.ttl_ms not in range(1_000, 60_001, 1_000):
            raise ConfigError("ttl_ms", self.ttl_ms, "use whole seconds, 1000-60000")
        check_at_least("lease_ms", self.lease_ms, 1)
        if self.lease_ms > self.ttl_ms:
            want = f"must be at most ttl_ms ({self.ttl_ms} ms)"
            raise ConfigError("lease_ms", self.lease_ms, want)

    @property
    def deposit_milli(self) -> int:
        """What a first attempt earns."""
        return round(self.ratio * RETRY_MILLI)

    @property
    def bucket_ms(self) -> int:
        """Length of a bucket."""
        return self.ttl_ms // self.deposit_buckets

    @property
    def deposit_buckets(self) -> int:
        """How many buckets a deposit lasts."""
        return _BUCKETS

    @property
    def withdrawal_buckets(self) -> int:
        """How many a withdrawal is remembered: a bucket and a lease longer."""
        return _BUCKETS + 1 + -(-self.lease_ms // self.bucket_ms)

    @property
    def floor_milli(self) -> int:
        """What the floor allows within the ttl."""
        return self.floor_per_s * self.ttl_ms * RETRY_MILLI // 1_000


class Lease(NamedTuple):
    """Retries taken, to be spent before an instant.

    Attributes:
        retries: Whole ones left, >= 0.
        until_ms: From here on they are lost.
    """

    retries: int
    until_ms: int

    def spend(self, *, now_ms: int) -> Lease | None:
        """The lease with one retry less; ``None`` if it has none, or has ended."""
        if self.retries < 1 or now_ms >= self.until_ms:
            return None
        return Lease(self.retries - 1, self.until_ms)


class Budget:
    """What is left to retry with. Belongs to one thread."""

    __slots__ = ("_deposit_milli", "_deposits", "_policy", "_withdrawals")

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy, self._deposit_milli = policy, policy.deposit_milli
        self._deposits, self._withdrawals = (
            SlidingWindow(
                WindowPolicy(length_ms=buckets * policy.bucket_ms, buckets=buckets), 1
            )
            for buckets in (policy.deposit_buckets, policy.withdrawal_buckets)
        )

    def deposit(self, now_ms: int, firsts: int = 1) -> None:
        """Note that so many first attempts were made."""
        self._deposits.add(now_ms, 0, firsts * self._deposit_milli)

    def withdraw(
        self, now_ms: int, priority: Priority, want: int = 1, *, share: int = 1
    ) -> int:
        """Take up to ``want`` retries; returns how many, 0 when there are none.

        Args:
            now_ms: When.
            priority: For whom.
            want: How many, >= 1.
            share: How many processes share the floor, >= 1.
        """
        capacity = self.capacity_milli(now_ms, share=share)
        left = capacity - self._withdrawals.totals(now_ms)[0]
        free = left - withheld_milli(capacity, priority)
        granted = min(want, max(0, free // RETRY_MILLI))
        if granted:
            self._withdrawals.add(now_ms, 0, granted * RETRY_MILLI)
        return granted

    def can_pay(self, now_ms: int, priority: Priority) -> bool:
        """Whether `withdraw` would give a retry now."""
        capacity = self.capacity_milli(now_ms)
        left = capacity - self._withdrawals.totals(now_ms)[0]
        return left - withheld_milli(capacity, priority) >= RETRY_MILLI

    def lease(self, now_ms: int, priority: Priority, want: int) -> Lease:
        """Take up to ``want`` retries, to be spent within the policy's ``lease_ms``."""
        granted = self.withdraw(now_ms, priority, want)
        return Lease(granted, now_ms + self._policy.lease_ms)

    def spent(self, now_ms: int, retries: int = 1) -> None:
        """Note retries that somebody else granted."""
        self._withdrawals.add(now_ms, 0, retries * RETRY_MILLI)

    def sums_milli(self, now_ms: int) -> tuple[int, int]:
        """What was deposited and withdrawn, as far as it counts now."""
        return self._deposits.totals(now_ms)[0], self._withdrawals.totals(now_ms)[0]

    def capacity_milli(self, now_ms: int, *, share: int = 1) -> int:
        """What the floor and the deposits allow within the ttl."""
        return self._policy.floor_milli // share + self._deposits.totals(now_ms)[0]

    def left_milli(self, now_ms: int) -> int:
        """What is left of it; below 0 when deposits ended before their withdrawals."""
        return self.capacity_milli(now_ms) - self._withdrawals.totals(now_ms)[0]


def withheld_milli(capacity_milli: int, priority: Priority) -> int:
    """The part that this priority leaves for those above. Pure."""
    return capacity_milli * _LEFT_MILLI[priority] // 1_000
