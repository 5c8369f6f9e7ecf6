"""What one process may spend of what the fleet shares: retries, and calls a second.

Both are spent from leases, so that nobody waits for the store; what was missing, and
what was spent, is asked for at the next sync. While the store is away each process
goes by its own share.
"""

from __future__ import annotations

from shifter.model.fleet import BudgetWish, RateGrant, RateWish
from shifter.model.priority import Priority
from shifter.policy.budget import Budget, BudgetPolicy
from shifter.policy.rate import RatePolicy, take
from shifter.policy.shared_budget import URGENT_FIRST, wish

_TELL_EVERY_MS = 1_000
_RATE_LEASE_MS = 1_000
_PLACE = {priority: place for place, priority in enumerate(URGENT_FIRST)}


class RetryTill:
    """Retries to one dependency. Belongs to one thread.

    Args:
        name: The dependency's.
        policy: The budget's.
    """

    def __init__(self, name: str, policy: BudgetPolicy) -> None:
        self._name, self._policy = name, policy
        self._firsts = 0
        self._told_ms = 0
        self._left = [0, 0, 0, 0]
        self._until_ms = [0, 0, 0, 0]
        self._wanted = [0, 0, 0, 0]
        self._empty_until_ms = 0
        self._alone = Budget(policy)
        self.is_alone = True  # until the store answered
        self.share = 1

    def first(self, now_ms: int) -> None:
        """Note a first attempt."""
        self._firsts += 1
        self._alone.deposit(now_ms)

    def spend(self, priority: Priority, now_ms: int) -> bool:
        """Take a retry; ``False`` if there is none."""
        if self.is_alone:
            return self._alone.withdraw(now_ms, priority, share=self.share) == 1
        place = _PLACE[priority]
        self._wanted[place] += 1
        if not self._left[place] or now_ms >= self._until_ms[place]:
            return False
        self._left[place] -= 1
        # Whoever is left alone later goes on from what was spent before.
        self._alone.spent(now_ms)
        return True

    def is_exhausted(self, now_ms: int) -> bool:
        """Whether somebody was refused a retry of late; asks for none."""
        return now_ms < self._empty_until_ms

    def give_back(self, priority: Priority) -> None:
        """A retry that was taken, and not made."""
        self._left[_PLACE[priority]] += 1

    def wish(self, now_ms: int) -> BudgetWish | None:
        """What is told and asked; ``None`` if nothing is worth it."""
        for place, until_ms in enumerate(self._until_ms):
            if now_ms >= until_ms:
                self._left[place] = 0
        critical, high, normal, low = (
            max(0, wanted - left)
            for wanted, left in zip(self._wanted, self._left, strict=True)
        )
        wants = (critical, high, normal, low)
        is_late = now_ms - self._told_ms >= _TELL_EVERY_MS
        if not any(wants) and not (self._firsts and is_late):
            return None
        return wish(self._name, self._policy, firsts=self._firsts, wants=wants)

    def granted(self, asked: BudgetWish, retries: tuple[int, ...], now_ms: int) -> None:
        """What the store gave for a wish."""
        earned = self._policy.deposit_milli
        self._firsts -= asked.deposit_milli // earned if earned else self._firsts
        self._told_ms, self._wanted = now_ms, [0, 0, 0, 0]
        if sum(retries) < sum(asked.wants):
            self._empty_until_ms = now_ms + _TELL_EVERY_MS
        for place, count in enumerate(retries):
            if count:
                self._left[place] += count
                self._until_ms[place] = now_ms + self._policy.lease_ms


class CallTill:
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
        """A call that was taken, and not made."""
        self._left += 1

    def wish(self, now_ms: int) -> RateWish | None:
        """What is asked; ``None`` if nothing is wanted."""
        if now_ms >= self._until_ms:
            self._left = 0
        want = self._wanted - self._left
        if want <= 0 or now_ms < self._not_before_ms:
            return None
        return self._policy.wish(self._name, want)

    def granted(self, grant: RateGrant, now_ms: int) -> None:
        """What the store gave."""
        self._wanted = 0
        self._left += grant.calls
        if grant.calls:
            self._until_ms = now_ms + _RATE_LEASE_MS
        else:
            self._not_before_ms = now_ms + grant.wait_us // 1_000
