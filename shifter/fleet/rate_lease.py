"""Calls a second that this process may make to a dependency, of the whole fleet's."""

from __future__ import annotations

from typing import Final

from shifter.fleet.guards import AGAIN_MS, CallRequest, Guard
from shifter.model.fleet import RateGrant, RateWish
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.fleet_pace import sync_every_s
from shifter.policy.protection.rate import RatePolicy, take

_LEASE_SYNCS: Final = 5
"""How long granted calls may be made: five syncs, so that one may fail."""


class RateLease(Guard):
    """Calls that this process may make by the fleet's rate. Belongs to one thread.

    Args:
        name: The name of the dependency.
        policy: The policy of the rate.
    """

    by = Protection.RATE

    def __init__(self, name: str, policy: RatePolicy) -> None:
        self._name, self._policy = name, policy
        self._left = self._until_ms = self._wanted = self._not_before_ms = 0
        self._alone_us, self._is_alone = 0, True
        self._share, self._lease_ms = 1, _lease_ms(1)

    def admit(self, request: CallRequest) -> int | None:
        """Take one call from the lease."""
        now_ms = request.now_ms
        if self._is_alone:
            asked = self._policy.wish(self._name, 1)
            asked = asked._replace(interval_us=asked.interval_us * self._share)
            taken = take(asked, self._alone_us, now_us=now_ms * 1_000)
            self._alone_us = taken.spread_us
            return None if taken.calls else AGAIN_MS
        self._wanted += 1
        if not self._left or now_ms >= self._until_ms:
            return AGAIN_MS
        self._left -= 1
        return None

    def give_back(self, request: CallRequest) -> None:  # noqa: ARG002  # as of `Guard`
        """Return the call to the lease."""
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
        """Add the calls that the store granted."""
        self._wanted = 0
        self._left += grant.calls
        if grant.calls:
            self._until_ms = now_ms + self._lease_ms
        else:
            self._not_before_ms = now_ms + grant.wait_us // 1_000

    def settle(self, peers: int | None) -> None:
        """Note how many processes share the store; ``None`` if it does not answer."""
        self._is_alone = peers is None
        if peers is not None:
            self._share, self._lease_ms = max(1, peers), _lease_ms(peers)


def _lease_ms(processes: int) -> int:
    return int(_LEASE_SYNCS * sync_every_s(processes) * 1_000)
