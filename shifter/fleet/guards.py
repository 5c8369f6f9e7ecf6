"""The guards of one dependency: a call begins when every one of them admits it.

`shifter.fleet.protection.DependencyProtection` composes guards as a list. The first
guard that refuses a call returns what the guards before it reserved. Three guards are
here: the concurrency limit, the retry budget and the rate. The fourth, the circuit, is
`shifter.fleet.circuit.Breaker`.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from shifter.fleet.budget_lease import RateLease, RetryLease
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import Permit
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.limit import (
    LimitMode,
    LimitPolicy,
    LimitSample,
    LimitState,
    adjust,
    may_start,
)
from shifter.policy.protection.throttle import (
    ThrottlePolicy,
    after_call,
    full,
    may_retry,
)

_AGAIN_MS: Final = 250
"""Wait after a refusal by a limit, a budget or a rate.

Leases are renewed by each sync, every 200 ms, so an earlier request would be refused by
the same numbers.
"""

_WINDOW_MS: Final = 1_000
"""Length of a sample of the limit: a second holds enough calls for a percentile."""

_P90: Final = 0.9
"""The percentile that a sample reports.

Source: failsafe-go's adaptive limiter, which compares the 90th percentiles.
"""


class CallPermit(NamedTuple):
    """One call may be made.

    Attributes:
        shared: Permit of the fleet's circuit.
        own: Permit of this process's own circuit.
    """

    shared: Permit
    own: Permit

    @property
    def is_probe(self) -> bool:
        """Whether it is a trial call of a half-open circuit."""
        return bool(self.shared.probe or self.own.probe)


class CallRequest:
    """One call that asks to be made.

    Attributes:
        priority: The priority of the job or the request.
        is_extra: Whether the call is a retry, a replay or a hedge.
        now_ms: The time, by this process's monotonic clock.
        permit: The circuit's permit; the circuit's guard sets it.
        is_probe: Whether the permit is one of a trial call.
        has_paid: Whether the retry budget was charged.
    """

    __slots__ = ("has_paid", "is_extra", "is_probe", "now_ms", "permit", "priority")

    permit: CallPermit

    def __init__(self, priority: Priority, *, is_extra: bool, now_ms: int) -> None:
        self.priority, self.is_extra, self.now_ms = priority, is_extra, now_ms
        self.has_paid = self.is_probe = False


class Guard:
    """One protection of one dependency. Belongs to one thread at a time.

    A guard overrides the verbs that it needs; by default it does nothing.

    Attributes:
        by: The name of the protection.
    """

    by: ClassVar[Protection]

    def admit(self, request: CallRequest) -> int | None:
        """Reserve what the call needs.

        Returns:
            ``None`` if the call may pass; milliseconds to wait, > 0, if it is refused.
            The caller may go on after a refusal: then the protection only counts.
        """
        raise NotImplementedError

    def give_back(self, request: CallRequest) -> None:
        """Return what `admit` reserved; another guard refused the call."""

    def begin(self, request: CallRequest) -> None:
        """Note that the call begins; no guard refuses it."""

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended.

        Returns:
            Whether this process's own circuit opened or closed.
        """
        raise NotImplementedError


class LimitGuard(Guard):
    """Counts the calls under way and learns how many there may be.

    Args:
        policy: The policy of the limit.

    Attributes:
        inflight: Calls under way.
        state: The limit that was learnt.
    """

    by = Protection.LIMIT

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


class BudgetGuard(Guard):
    """Charges extra executions to the fleet's budget and to this process's throttle.

    Args:
        lease: The retries that this process may spend.
        throttle: A second bound, by what this process sees; ``None`` for none.
    """

    by = Protection.BUDGET

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


class RateGuard(Guard):
    """Bounds the calls a second of the whole fleet.

    Args:
        lease: The calls that this process may make.
    """

    by = Protection.RATE

    def __init__(self, lease: RateLease) -> None:
        self._lease = lease

    def admit(self, request: CallRequest) -> int | None:
        """Take one call from the lease."""
        return None if self._lease.spend(request.now_ms) else _AGAIN_MS

    def give_back(self, request: CallRequest) -> None:  # noqa: ARG002  # as of `Guard`
        """Return the call to the lease."""
        self._lease.give_back()
