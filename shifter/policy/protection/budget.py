"""How many extra executions a dependency is asked to bear, by one process or a fleet.

Every first attempt deposits a share of a retry; every extra execution (retry, replay,
hedge) withdraws a whole one; a floor keeps a quiet caller able to retry. So retries
never multiply the load, however many layers retry: in every ``ttl_ms`` that ends with a
withdrawal, retries <= ratio x first attempts + floor. To hold for every such stretch
and not only for aligned ones, and for retries that are made as late as their lease
allows, withdrawals are remembered a bucket and a lease longer than the ttl, and
deposits up to a bucket shorter.

Lower priorities may not take the last of it: each leaves a part for those above, so
LOW starves first. A process takes several retries at once (a *lease*), so that none
waits for the store; what a lease does not spend is lost with it.

`Budget` is the budget of one process. A store keeps a budget that many processes share
as a row of buckets, and `serve` is the specification of what it does with it
(``lua/fleet_sync.lua``).

Sources: Finagle's and tower's retry budgets (ratio 0.2, 10 a second, ttl 10 s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from shifter.errors import ConfigError
from shifter.model.fleet import MAX_COUNT, BudgetWish
from shifter.model.lane import Priority
from shifter.policy.bounds import check_at_least
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

RETRY_MILLI = 1_000
"""Thousandths in a retry: a script of the store computes with whole numbers."""

MAX_DEPOSIT_MILLI: Final = 1_000_000_000
"""The most that one bucket holds: a million retries, either way."""

URGENT_FIRST: Final = sorted(Priority, key=lambda priority: -priority.rank)

BudgetRow: TypeAlias = dict[int, tuple[int, int]]
"""Thousandths of a retry deposited and withdrawn, by the number of the bucket."""

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

``LOW`` stops at one half of the budget, so its retries end before others miss any.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPolicy:
    """Settings of a retry budget. Ratio 0 and floor 0 together forbid every retry.

    Attributes:
        ratio: Retries that a first attempt earns, 0 or 0.001-1000.
        floor_per_s: Retries a second allowed whatever was earned, >= 0.
        ttl_ms: How long a deposit lasts, 1000-60000, in whole seconds.
        lease_ms: How long a process may keep the retries it took, 1-``ttl_ms``.

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
        return self.ttl_ms // _BUCKETS

    @property
    def withdrawal_buckets(self) -> int:
        """How many buckets a withdrawal is remembered: a bucket and a lease longer."""
        return _BUCKETS + 1 + -(-self.lease_ms // self.bucket_ms)

    @property
    def floor_milli(self) -> int:
        """What the floor allows within the ttl."""
        return self.floor_per_s * self.ttl_ms * RETRY_MILLI // 1_000

    def wish(
        self, name: str, earned_milli: int, wants: tuple[int, int, int, int]
    ) -> BudgetWish:
        """What a process asks of a shared budget.

        Args:
            name: The name of the dependency.
            earned_milli: Earned since the last wish, thousandths of a retry; below 0
                if more was spent without the store than was earned.
            wants: Whole retries, most urgent priority first.
        """
        terms = (self.floor_milli, self.bucket_ms, _BUCKETS, self.withdrawal_buckets)
        return BudgetWish(name, *terms, earned_milli, wants)


class Budget:
    """The budget of one process. Belongs to one thread.

    Args:
        policy: The policy of the budget.
    """

    __slots__ = ("_deposit_milli", "_deposits", "_floor_milli", "_withdrawals")

    def __init__(self, policy: BudgetPolicy) -> None:
        self._deposit_milli = policy.deposit_milli
        self._floor_milli = policy.floor_milli
        self._deposits, self._withdrawals = (
            SlidingWindow(
                WindowPolicy(length_ms=buckets * policy.bucket_ms, buckets=buckets), 1
            )
            for buckets in (_BUCKETS, policy.withdrawal_buckets)
        )

    def deposit(self, now_ms: int, firsts: int = 1) -> None:
        """Note that so many first attempts were made."""
        self._deposits.add(now_ms, 0, firsts * self._deposit_milli)

    def withdraw(
        self, now_ms: int, priority: Priority, want: int = 1, *, share: int = 1
    ) -> int:
        """Take up to ``want`` retries; returns how many, 0 when there are none.

        Args:
            now_ms: The time of the request.
            priority: The priority of the retries.
            want: How many retries are wanted, >= 1.
            share: How many processes share the floor, >= 1.
        """
        granted = min(want, self._free(now_ms, priority, share))
        if granted:
            self.spent(now_ms, granted)
        return granted

    def can_pay(self, now_ms: int, priority: Priority) -> bool:
        """Whether `withdraw` would give a retry now."""
        return self._free(now_ms, priority, 1) >= 1

    def left(self, now_ms: int, *, share: int = 1) -> int:
        """Retries left for ``CRITICAL``; ``share`` processes share the floor."""
        return self._free(now_ms, Priority.CRITICAL, share)

    def spent(self, now_ms: int, retries: int = 1) -> None:
        """Note retries that were granted."""
        self._withdrawals.add(now_ms, 0, retries * RETRY_MILLI)

    def sums_milli(self, now_ms: int) -> tuple[int, int]:
        """What was deposited and withdrawn, as far as it counts now."""
        return self._deposits.totals(now_ms)[0], self._withdrawals.totals(now_ms)[0]

    def _free(self, now_ms: int, priority: Priority, share: int) -> int:
        deposited, withdrawn = self.sums_milli(now_ms)
        capacity = self._floor_milli // share + deposited
        return _free_retries(capacity, capacity - withdrawn, priority)


def is_sound(row: BudgetRow) -> bool:
    """Whether a row read from a store is one that `serve` can have written. Pure."""
    return all(
        0 <= n <= MAX_COUNT
        and abs(deposited) <= MAX_DEPOSIT_MILLI
        and 0 <= withdrawn <= MAX_COUNT
        for n, (deposited, withdrawn) in row.items()
    )


def serve(
    row: BudgetRow, asked: BudgetWish, *, now_ms: int
) -> tuple[BudgetRow, tuple[int, int, int, int]]:
    """Deposit, then grant the most urgent priority first. Pure.

    A clock that goes back is taken to stand still; one that went back by more than
    the row remembers begins a new row.

    Args:
        row: The buckets of the budget.
        asked: What a process deposits and wants.
        now_ms: The time, by the store's clock.

    Returns:
        The row afterwards, and the retries granted.
    """
    longest = max(asked.deposit_buckets, asked.withdrawal_buckets)
    current = now_ms // asked.bucket_ms
    known = {n: sums for n, sums in row.items() if n <= current + longest}
    current = max(current, max(known, default=0))
    after = {n: sums for n, sums in known.items() if n > current - longest}
    deposited, withdrawn = after.get(current, (0, 0))
    deposited += asked.deposit_milli
    deposited = max(-MAX_DEPOSIT_MILLI, min(MAX_DEPOSIT_MILLI, deposited))
    after[current] = (deposited, withdrawn)
    oldest_deposit = current - asked.deposit_buckets
    oldest_withdrawal = current - asked.withdrawal_buckets
    capacity = asked.floor_milli + sum(
        milli for n, (milli, _) in after.items() if n > oldest_deposit
    )
    left = capacity - sum(
        milli for n, (_, milli) in after.items() if n > oldest_withdrawal
    )
    granted = []
    for priority, want in zip(URGENT_FIRST, asked.wants, strict=True):
        retries = min(want, _free_retries(capacity, left, priority))
        left -= retries * RETRY_MILLI
        withdrawn += retries * RETRY_MILLI
        granted.append(retries)
    after[current] = (deposited, withdrawn)
    critical, high, normal, low = granted
    return after, (critical, high, normal, low)


def _free_retries(capacity_milli: int, left_milli: int, priority: Priority) -> int:
    """Whole retries left, without the part that is left for higher priorities."""
    withheld_milli = capacity_milli * _LEFT_MILLI[priority] // 1_000
    return max(0, (left_milli - withheld_milli) // RETRY_MILLI)
