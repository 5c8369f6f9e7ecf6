"""Leases of the fleet's retry budgets and rates, held by one process.

Retries and calls are spent from leases, so that no call waits for the store; the next
sync reports what was spent and asks for what was missing. While the store is away each
process uses its own share.

A store that did not answer may still have received a report, so nothing is reported
twice: what a process earns and spends alone is settled alone. Only what it spent beyond
its earnings, its share of the floor, is repaid when the store is back.
"""

from __future__ import annotations

from shifter.fleet.report import BudgetReport
from shifter.model.fleet import BudgetWish, RateGrant, RateWish
from shifter.model.lane import Priority
from shifter.policy.protection.budget import (
    RETRY_MILLI,
    URGENT_FIRST,
    Budget,
    BudgetPolicy,
)
from shifter.policy.protection.rate import RatePolicy, take

_TELL_EVERY_MS = 1_000
_RATE_LEASE_MS = 1_000
_NOTHING = (0, 0, 0, 0)
_PLACE = {priority: place for place, priority in enumerate(URGENT_FIRST)}


class RetryLease:
    """Retries to one dependency. Belongs to one thread.

    Args:
        name: The dependency's.
        policy: The budget's.
    """

    def __init__(self, name: str, policy: BudgetPolicy) -> None:
        self._policy = policy
        self._earns_milli = policy.deposit_milli
        self._terms = (policy.deposit_milli, policy.floor_per_s, policy.ttl_ms)
        self._whose = policy.wish(name, 0, _NOTHING)[:5]
        self._firsts = self._told_firsts = self._told_wants = 0
        self._owed_milli = 0
        self._told_ms = 0
        self._left = [0, 0, 0, 0]
        self._until_ms = [0, 0, 0, 0]
        self._wanted = [0, 0, 0, 0]
        self._empty_until_ms = 0
        self._alone = Budget(policy)
        self.is_alone = True  # until the store answered
        self.share = 1

    def answered(self, peers: int) -> None:
        """Note that the store answered, and how many processes share it."""
        self.share = max(1, peers)
        if self.is_alone:
            self.is_alone = False
            most_milli = self._policy.floor_milli // self.share
            self._owed_milli = min(max(0, self._owed_milli), most_milli)

    def left_alone(self) -> None:
        """Note that the store did not answer."""
        if not self.is_alone:
            self.is_alone, self._owed_milli = True, 0
        self._firsts = 0

    def first(self, now_ms: int) -> None:
        """Note a first attempt."""
        self._alone.deposit(now_ms)
        if self.is_alone:
            self._owed_milli -= self._earns_milli
        else:
            self._firsts += 1

    def spend(self, priority: Priority, now_ms: int) -> bool:
        """Take a retry; ``False`` if there is none."""
        if self.is_alone:
            taken = self._alone.withdraw(now_ms, priority, share=self.share)
            self._owed_milli += taken * RETRY_MILLI
            return taken == 1
        place = _PLACE[priority]
        self._wanted[place] += 1
        if not self._left[place] or now_ms >= self._until_ms[place]:
            return False
        self._left[place] -= 1
        # A process that loses the store goes on from what it spent before.
        self._alone.spent(now_ms)
        return True

    def words(self, now_ms: int) -> BudgetReport:
        """The budget as operators see it."""
        return BudgetReport(*self._terms, *self._alone.sums_milli(now_ms))

    def is_exhausted(self, now_ms: int) -> bool:
        """Whether a retry was refused within the last second."""
        return now_ms < self._empty_until_ms

    def give_back(self, priority: Priority) -> None:
        """Return a retry that was taken and not made."""
        self._left[_PLACE[priority]] += 1

    def wish(self, now_ms: int) -> BudgetWish | None:
        """The report and the request of the next sync; ``None`` for neither."""
        is_late = now_ms - self._told_ms >= _TELL_EVERY_MS
        is_news = is_late and (self._firsts or self._owed_milli > 0)
        if self.is_alone or not (is_news or any(self._wanted)):
            return None
        wants = self._missing(now_ms) if any(self._wanted) else _NOTHING
        if not (is_news or any(wants)):
            return None
        self._told_firsts, self._told_wants = self._firsts, sum(wants)
        earned_milli = self._firsts * self._earns_milli - self._owed_milli
        return BudgetWish(*self._whose, earned_milli, wants)

    def _missing(self, now_ms: int) -> tuple[int, int, int, int]:
        """Retries that were wanted since the last sync and are not left of a lease."""
        for place, until_ms in enumerate(self._until_ms):
            if now_ms >= until_ms:
                self._left[place] = 0
        critical, high, normal, low = (
            max(0, wanted - left)
            for wanted, left in zip(self._wanted, self._left, strict=True)
        )
        return critical, high, normal, low

    def granted(self, retries: tuple[int, ...], now_ms: int) -> None:
        """Add what the store granted for the last request."""
        self._firsts -= self._told_firsts
        self._told_firsts = self._owed_milli = 0
        self._told_ms, self._wanted = now_ms, [0, 0, 0, 0]
        if sum(retries) < self._told_wants:
            self._empty_until_ms = now_ms + _TELL_EVERY_MS
        for place, count in enumerate(retries):
            if count:
                self._left[place] += count
                self._until_ms[place] = now_ms + self._policy.lease_ms


class RateLease:
    """Calls to one dependency, by its rate. Belongs to one thread.

    Args:
        name: The dependency's.
        policy: The rate's.
    """

    def __init__(self, name: str, policy: RatePolicy) -> None:
        self._name, self._policy = name, policy
        self._left = self._until_ms = self._wanted = 0
        self._not_before_ms = 0
        self._alone_us = 0
        self.is_alone = True  # until the store answered
        self.share = 1

    def answered(self, peers: int) -> None:
        """Note that the store answered, and how many processes share it."""
        self.is_alone, self.share = False, max(1, peers)

    def left_alone(self) -> None:
        """Note that the store did not answer."""
        self.is_alone = True

    def spend(self, now_ms: int) -> bool:
        """Take a call; ``False`` if there is none."""
        if self.is_alone:
            asked = self._policy.wish(self._name, 1)
            interval_us = asked.interval_us * self.share
            asked = asked._replace(interval_us=interval_us)
            taken = take(asked, self._alone_us, now_us=now_ms * 1_000)
            self._alone_us = taken.spread_us
            return taken.calls == 1
        self._wanted += 1
        if not self._left or now_ms >= self._until_ms:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """Return a call that was taken and not made."""
        self._left += 1

    def wish(self, now_ms: int) -> RateWish | None:
        """The request of the next sync; ``None`` if no call is missing."""
        if now_ms >= self._until_ms:
            self._left = 0
        want = self._wanted - self._left
        if want <= 0 or now_ms < self._not_before_ms:
            return None
        return self._policy.wish(self._name, want)

    def granted(self, grant: RateGrant, now_ms: int) -> None:
        """Add what the store granted."""
        self._wanted = 0
        self._left += grant.calls
        if grant.calls:
            self._until_ms = now_ms + _RATE_LEASE_MS
        else:
            self._not_before_ms = now_ms + grant.wait_us // 1_000
