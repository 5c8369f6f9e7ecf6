"""Guards of one process: the concurrency limit, the retry budget and the rate.

The fourth guard, the circuit, is `shifter.fleet.breaker.Breaker`.
"""

from __future__ import annotations

from typing import Final

from shifter.fleet.budget_lease import RateLease, RetryLease
from shifter.fleet.guard import CallPermit, CallRequest
from shifter.model.lane import Priority
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.evidence import CallOutcome
from shifter.policy.protection.limit import (
    LimitMode,
    LimitPolicy,
    LimitSample,
    LimitState,
    adjust,
    may_start,
)
from shifter.policy.protection.local_circuit import CallEnd
from shifter.policy.protection.throttle import (
    ThrottlePolicy,
    after_call,
    full,
    may_retry,
)

_AGAIN_MS: Final = 250
"""Wait after a refusal by a limit, a budget or a rate.

Leases are renewed by each sync, every 200 ms, so an earlier question would be refused
by the same numbers.
"""

_WINDOW_MS: Final = 1_000
"""Length of a sample of the limit: a second holds enough calls for a percentile."""

_P90: Final = 0.9
"""The percentile that a sample reports.

Source: failsafe-go's adaptive limiter, which compares the 90th percentiles.
"""


class LimitGuard:
    """Counts the calls under way and learns how many there may be.

    Args:
        policy: The limit's.

    Attributes:
        inflight: Calls under way.
        state: The limit that was learnt.
    """

    by: Final = Protection.LIMIT

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self._is_shadow = policy.mode is LimitMode.SHADOW
        self.state = LimitState(float(policy.initial))
        self.inflight = self._dropped = 0
        self._took_ms: list[int] = []
        self._since_ms: int | None = None

    def has_room(self, priority: Priority) -> bool:
        """Whether one more call may begin."""
        return self._is_shadow or may_start(self.state.limit, self.inflight, priority)

    def admit(self, request: CallRequest) -> int | None:
        """Look for room; a call is counted when it begins."""
        if self._is_shadow or may_start(
            self.state.limit, self.inflight, request.priority
        ):
            return None
        return _AGAIN_MS

    def give_back(self, request: CallRequest) -> None:
        """Do nothing: `admit` reserves nothing."""

    def begin(self, request: CallRequest) -> None:  # noqa: ARG002  # as of `Guard`
        """Count a call."""
        self.inflight += 1

    def ended(self, _: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Learn from a call; an ignored one only leaves."""
        self.inflight -= 1
        is_ignored = end.outcome is CallOutcome.IGNORED
        self._dropped += end.outcome is CallOutcome.THROTTLED or (
            end.was_cut and not is_ignored
        )
        if not is_ignored:
            self._took_ms.append(end.took_ms)
        if self._since_ms is None:
            self._since_ms = now_ms
        elif now_ms - self._since_ms >= _WINDOW_MS:
            self._learn(now_ms - self._since_ms)
            self._since_ms = now_ms
        return False

    def _learn(self, passed_ms: int) -> None:
        took, dropped = sorted(self._took_ms), self._dropped
        self._took_ms, self._dropped = [], 0
        if not took:
            return
        sample = LimitSample(
            len(took),
            sum(took) / passed_ms,  # Little's law
            len(took) * 1_000 / passed_ms,
            max(0.5, float(took[int(len(took) * _P90)])),
            dropped,
        )
        self.state = adjust(self._policy, self.state, sample)


class BudgetGuard:
    """Charges extra executions to the fleet's budget and to this process's throttle.

    Args:
        lease: The retries that this process may spend.
        throttle: A second bound, by what this process sees; ``None`` for none.
    """

    by: Final = Protection.BUDGET

    def __init__(self, lease: RetryLease, throttle: ThrottlePolicy | None) -> None:
        self._lease, self._throttle = lease, throttle
        self._tokens_milli = 0 if throttle is None else full(throttle)

    def admit(self, request: CallRequest) -> int | None:
        """Charge an extra execution; a first one passes."""
        if not request.is_extra:
            return None
        throttle = self._throttle
        if throttle is not None and not may_retry(throttle, self._tokens_milli):
            return _AGAIN_MS
        request.has_paid = self._lease.spend(request.priority, request.now_ms)
        return None if request.has_paid else _AGAIN_MS

    def give_back(self, request: CallRequest) -> None:
        """Return the retry that was charged, if one was."""
        if request.has_paid:
            request.has_paid = False
            self._lease.give_back(request.priority)

    def begin(self, request: CallRequest) -> None:
        """Earn a share of a retry from a first execution; a probe earns nothing."""
        if not (request.is_extra or request.is_probe):
            self._lease.first(request.now_ms)

    def ended(self, _: CallPermit, end: CallEnd, *, now_ms: int) -> bool:  # noqa: ARG002  # as of `Guard`
        """Let the throttle learn from the call, unless it is ignored."""
        throttle = self._throttle
        if throttle is not None and end.outcome is not CallOutcome.IGNORED:
            ok = end.outcome is CallOutcome.SUCCESS
            self._tokens_milli = after_call(throttle, self._tokens_milli, ok=ok)
        return False


class RateGuard:
    """Bounds the calls a second of the whole fleet.

    Args:
        lease: The calls that this process may make.
    """

    by: Final = Protection.RATE

    def __init__(self, lease: RateLease) -> None:
        self._lease = lease

    def admit(self, request: CallRequest) -> int | None:
        """Take one call from the lease."""
        return None if self._lease.spend(request.now_ms) else _AGAIN_MS

    def give_back(self, request: CallRequest) -> None:  # noqa: ARG002  # as of `Guard`
        """Return the call to the lease."""
        self._lease.give_back()

    def begin(self, request: CallRequest) -> None:
        """Do nothing: the call was counted when it was admitted."""

    def ended(self, _: CallPermit, end: CallEnd, *, now_ms: int) -> bool:  # noqa: ARG002  # as of `Guard`
        """Do nothing: a rate does not depend on how calls end."""
        return False
