"""The guards of one dependency: a call begins when every one of them admits it.

`shifter.fleet.protection.DependencyProtection` composes guards as a list. The first
guard that refuses a call returns what the guards before it reserved. Two guards are
here: the concurrency limit and the retry budget. The others are the circuit,
`shifter.fleet.circuit.Breaker`, and the rate, `shifter.fleet.rate_lease.RateLease`.

Budget and rate belong to the whole fleet. A process spends them from *leases*, so that
no call waits for the store; the next sync reports what was spent and asks for what was
missing. While the store is away, each process uses its own share.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from shifter.fleet.shared_state import BudgetReport
from shifter.model.fleet import BudgetWish
from shifter.model.lane import Priority
from shifter.policy.protection.budget import (
    RETRY_MILLI,
    URGENT_FIRST,
    Budget,
    BudgetPolicy,
)
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

AGAIN_MS: Final = 250
"""Wait after a refusal by a limit, a budget or a rate; leases are renewed every 200 ms,
so an earlier request would be refused by the same numbers."""

_REPORT_EVERY_MS: Final = 1_000
"""First attempts are reported this often; a missing retry is asked for at once."""

_MOST_BORROWED: Final = 5
"""Retries that a process spends before the store answers: by so many, times the
processes, a fleet may exceed its budget. A process whose store has none left borrows
none until the store grants one."""

_NOTHING: Final = (0, 0, 0, 0)
_PLACE: Final = {priority: place for place, priority in enumerate(URGENT_FIRST)}

_WINDOW_MS: Final = 1_000
"""Length of a sample of the limit: a second holds enough calls for a percentile."""

_P90: Final = 0.9
"""The percentile that a sample reports.
Source: failsafe-go's adaptive limiter, which compares the 90th percentiles."""


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
        is_prompt: Whether a caller waits for an extra call, so that it cannot be
            refused until the store has granted a retry.
        now_ms: The time, by this process's monotonic clock.
        permit: The circuit's permit; the circuit's guard sets it.
        is_probe: Whether the permit is one of a trial call.
        has_paid: Whether the retry budget was charged.
    """

    __slots__ = (
        "has_paid",
        "is_extra",
        "is_probe",
        "is_prompt",
        "now_ms",
        "permit",
        "priority",
    )

    permit: CallPermit

    def __init__(self, priority: Priority, *, is_extra: bool, now_ms: int) -> None:
        self.priority, self.is_extra, self.now_ms = priority, is_extra, now_ms
        self.has_paid = self.is_probe = self.is_prompt = False


class Guard:
    """One protection of one dependency; it overrides the verbs that it needs."""

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

        Args:
            permit: The call's permit.
            end: How the call ended.
            now_ms: The time, by this process's monotonic clock.

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
        return AGAIN_MS

    def begin(self, request: CallRequest) -> None:  # noqa: ARG002  # as of `Guard`
        """Count a call."""
        self.inflight += 1

    def ended(self, _: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Learn from a call; an ignored one only leaves."""
        self.inflight -= 1
        if end.outcome is not CallOutcome.IGNORED:
            self._took_ms.append(end.took_ms)
            self._dropped += end.was_cut or end.outcome is CallOutcome.THROTTLED
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


class RetryLease(Guard):
    """Extra executions that this process may make. Belongs to one thread.

    Args:
        name: The name of the dependency.
        policy: The policy of the fleet's budget.
        throttle: A second bound, by the calls of this process; ``None`` for none.
    """

    by = Protection.BUDGET

    def __init__(
        self, name: str, policy: BudgetPolicy, throttle: ThrottlePolicy | None = None
    ) -> None:
        self._policy, self._throttle = policy, throttle
        self._tokens_milli = 0 if throttle is None else full(throttle)
        self._earns_milli = policy.deposit_milli
        self._terms = (policy.deposit_milli, policy.floor_per_s, policy.ttl_ms)
        self._wish_terms = policy.wish(name, 0, _NOTHING)[:5]
        self._firsts = self._reported_firsts = self._reported_wants = 0
        self._owed_milli = self._reported_owed_milli = self._borrowed = 0
        self._reported_ms = self._empty_until_ms = 0
        self._left, self._until_ms, self._wanted = [0] * 4, [0] * 4, [0] * 4
        self._alone = Budget(policy)
        self._is_alone, self._share = True, 1

    def admit(self, request: CallRequest) -> int | None:
        """Charge an extra execution; a first one passes."""
        if not request.is_extra:
            return None
        throttle = self._throttle
        if throttle is not None and not may_retry(throttle, self._tokens_milli):
            return AGAIN_MS
        request.has_paid = self.spend(
            request.priority, request.now_ms, is_prompt=request.is_prompt
        )
        return None if request.has_paid else AGAIN_MS

    def spend(
        self, priority: Priority, now_ms: int, *, is_prompt: bool = False
    ) -> bool:
        """Take a retry; ``False`` if there is none.

        A prompt one that finds no lease is borrowed: the process spends what it earned
        itself, or its share of the floor, and the next sync reports it.
        """
        if self._is_alone:
            return self._spend_own(priority, now_ms)
        place = _PLACE[priority]
        has_lease = self._left[place] and now_ms < self._until_ms[place]
        if not has_lease and is_prompt and self._borrow(priority, now_ms):
            return True
        self._wanted[place] += 1
        if not has_lease:
            return False
        self._left[place] -= 1
        # A process that loses the store goes on from what it spent before.
        self._alone.spent(now_ms)
        return True

    def _borrow(self, priority: Priority, now_ms: int) -> bool:
        """Take a retry before the store grants it, and ask whether it has any left."""
        if self._borrowed >= _MOST_BORROWED or not self._spend_own(priority, now_ms):
            return False
        if not self._borrowed:
            self._wanted[_PLACE[priority]] += 1
        self._borrowed += 1
        return True

    def _spend_own(self, priority: Priority, now_ms: int) -> bool:
        taken = self._alone.withdraw(now_ms, priority, share=self._share)
        self._owed_milli += taken * RETRY_MILLI
        return taken == 1

    def give_back(self, request: CallRequest) -> None:
        """Return the retry that was charged, if one was."""
        if request.has_paid:
            request.has_paid = False
            self._left[_PLACE[request.priority]] += 1

    def begin(self, request: CallRequest) -> None:
        """Earn a share of a retry from a first execution; a probe earns nothing."""
        if request.is_extra or request.is_probe:
            return
        self._alone.deposit(request.now_ms)
        if self._is_alone:
            self._owed_milli -= self._earns_milli
        else:
            self._firsts += 1

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:  # noqa: ARG002  # as of `Guard`
        """Let the throttle learn from the call, unless it is ignored."""
        if self._throttle is not None and end.outcome is not CallOutcome.IGNORED:
            ok = end.outcome is CallOutcome.SUCCESS
            self._tokens_milli = after_call(self._throttle, self._tokens_milli, ok=ok)
        return False

    def report(self, now_ms: int) -> BudgetReport:
        """The budget as operators see it."""
        return BudgetReport(*self._terms, *self._alone.sums_milli(now_ms))

    def left(self, now_ms: int) -> int:
        """Retries left by what this process earned and spent, and its share."""
        return self._alone.left(now_ms, share=self._share)

    def is_exhausted(self, now_ms: int) -> bool:
        """Whether a retry was refused within the last second."""
        return now_ms < self._empty_until_ms

    def wish(self, now_ms: int) -> BudgetWish | None:
        """The report and the request of the next sync; ``None`` for neither."""
        is_due = now_ms - self._reported_ms >= _REPORT_EVERY_MS
        is_news = is_due and (self._firsts or self._owed_milli > 0)
        if self._is_alone or not (is_news or any(self._wanted)):
            return None
        wants = self._missing(now_ms) if any(self._wanted) else _NOTHING
        if not (is_news or any(wants)):
            return None
        self._reported_firsts, self._reported_wants = self._firsts, sum(wants)
        self._reported_owed_milli = self._owed_milli
        earned_milli = self._firsts * self._earns_milli - self._owed_milli
        return BudgetWish(*self._wish_terms, earned_milli, wants)

    def granted(self, retries: tuple[int, ...], now_ms: int) -> None:
        """Add the retries that the store granted for the last request."""
        self._firsts -= self._reported_firsts
        self._owed_milli -= self._reported_owed_milli
        self._reported_firsts = self._reported_owed_milli = 0
        self._reported_ms, self._wanted = now_ms, [0] * 4
        is_short = sum(retries) < self._reported_wants
        if is_short:
            self._empty_until_ms = now_ms + _REPORT_EVERY_MS
        if self._reported_wants:
            self._borrowed = _MOST_BORROWED if is_short else 0
        for place, count in enumerate(retries):
            if count:
                self._left[place] += count
                self._until_ms[place] = now_ms + self._policy.lease_ms

    def settle(self, peers: int | None) -> None:
        """Note how many processes share the store; ``None`` if it does not answer.

        A store that did not answer may still have received a report, so nothing is
        reported twice: what a process earns and spends alone is settled alone. Only
        what it spent beyond its earnings, within its share of the floor, is repaid
        when the store is back.
        """
        if peers is None:
            self._owed_milli = self._owed_milli if self._is_alone else 0
            self._firsts = 0
        else:
            self._share = max(1, peers)
            if self._is_alone:
                most_milli = self._policy.floor_milli // self._share
                self._owed_milli = min(max(0, self._owed_milli), most_milli)
        self._is_alone = peers is None

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
