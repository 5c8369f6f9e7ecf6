"""Tries: each is one call to one endpoint, permitted by the dependency's protections.

A try ends when its own timeout, the limit of the whole call, the timeout of the handler
or the deadline of the request passes, whichever is first. Only a try that used up its
own timeout is a failure for certain; one that others cut short is a failure if it had
most of their time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from shifter.balance.balancer import Balancer, CallEvidence, EndpointLease
from shifter.errors import (
    BudgetExhaustedError,
    CircuitOpenError,
    DeadlineExceededError,
    LimitReachedError,
    NoEndpointError,
    RateLimitedError,
    RejectedError,
)
from shifter.fleet.calls import (
    CUT,
    FAILURE,
    IGNORED,
    ActiveCall,
    Caller,
    CallVerdict,
    cause_of,
    verdict_of,
)
from shifter.fleet.protection import Rejected
from shifter.jobs.request_scope import Ambient, left_to_call_ms, within
from shifter.model.endpoint import Endpoint
from shifter.model.time import EpochMs
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.ports import Clock

if TYPE_CHECKING:
    import asyncio

REJECTIONS: Final[dict[Protection, type[RejectedError]]] = {
    Protection.CIRCUIT: CircuitOpenError,
    Protection.LIMIT: LimitReachedError,
    Protection.BUDGET: BudgetExhaustedError,
    Protection.RATE: RateLimitedError,
}
_EVIDENCE: Final = {
    CallOutcome.SUCCESS: CallEvidence(failed=False),
    CallOutcome.FAILURE: CallEvidence(failed=True),
    CallOutcome.IGNORED: CallEvidence(failed=None),
}
_PAUSE_S: Final = 1.0
"""Pause of an endpoint that is overloaded and does not name a time."""

_MOST_PAUSE_S: Final = 300.0
"""Longest pause that an endpoint may ask for, as long as the longest ejection."""

NO_ENDPOINT_S: Final = 1.0
"""When to ask again for a list that is empty: functions are asked once a second."""

_LOOKUP_S: Final = 5.0
"""Longest wait for the first look-up of a name: the resolver's own first timeout."""

_TIMER_S: Final = 0.001
"""Precision of timers."""

_TRY: Final[ContextVar[Try | None]] = ContextVar("shifter_try", default=None)


def remaining_s() -> float | None:
    """Seconds that the try under way has left, >= 0; ``None`` without a limit.

    For clients that take a timeout: a plain function cannot be stopped from outside.
    """
    current = _TRY.get()
    return None if current is None else current.remaining_s


def evidence_of(
    verdict: CallVerdict, passed_s: float, limit_s: float | None
) -> CallEvidence:
    """What the end of a call implies about its endpoint.

    Args:
        verdict: What it implies about the dependency.
        passed_s: How long the call took.
        limit_s: How long it was allowed to take; ``None`` for no limit.
    """
    if verdict.outcome is CallOutcome.THROTTLED:
        asked_ms = verdict.after_ms
        pause_s = _PAUSE_S if asked_ms is None else asked_ms / 1_000
        return CallEvidence(failed=None, pause_s=min(pause_s, _MOST_PAUSE_S))
    if verdict.was_cut and limit_s is not None and 2 * passed_s >= limit_s:
        cause = verdict.cause or FailureCause(
            "TimeoutError", 1, f"no answer within {passed_s:.3f} s"
        )
        return CallEvidence(failed=True, cause=cause)
    return _EVIDENCE[verdict.outcome]._replace(cause=verdict.cause)


class TryLimit(NamedTuple):
    """How long a try may take.

    Attributes:
        seconds: > 0; ``None`` for no limit.
        is_own: Whether it is the try's own timeout, and not what its caller has left.
    """

    seconds: float | None
    is_own: bool


class Try:
    """One call to one endpoint: a block, ``with`` or ``async with``.

    An ``async with`` block is cancelled when its time is up, and raises
    `TimeoutError`.

    Attributes:
        endpoint: The endpoint that is called.
        limit: How long it may take.
        has_lost: Whether it is stopped because another try was quicker.
        may_retry: After its end: whether another endpoint may do better.
    """

    def __init__(
        self,
        calls: EndpointCalls,
        call: ActiveCall | None,
        lease: EndpointLease,
        limit: TryLimit,
    ) -> None:
        self._calls, self._call, self._lease = calls, call, lease
        self.endpoint: Endpoint = lease.endpoint
        self.limit, self.has_lost, self.may_retry = limit, False, False
        self._began = calls.clock.monotonic()
        self._scope: AbstractContextManager[Ambient] | None = None
        self._outer: Try | None = None
        self._timer: asyncio.Timeout | None = None

    @property
    def remaining_s(self) -> float | None:
        """Seconds it has left, >= 0; ``None`` without a limit."""
        if self.limit.seconds is None:
            return None
        return max(0.0, self.limit.seconds - self._passed_s)

    def __enter__(self) -> Self:
        self._outer = _TRY.get()
        _TRY.set(self)
        if self.limit.seconds is not None:
            limit_ms = int(self.limit.seconds * 1_000)
            deadline_ms = self._calls.clock.epoch_ms() + limit_ms
            self._scope = within(deadline_ms=deadline_ms)
            self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scope is not None:
            self._scope.__exit__(None, None, None)
        _TRY.set(self._outer)
        verdict = IGNORED if self.has_lost else self._verdict(error)
        evidence = evidence_of(verdict, self._passed_s, self.limit.seconds)
        self._lease.end(self._calls.clock.monotonic(), evidence)
        if self._call is not None:
            self._calls.caller.end(self._call, verdict)
        self.may_retry = verdict.outcome in (
            CallOutcome.FAILURE,
            CallOutcome.THROTTLED,
        )

    async def __aenter__(self) -> Self:
        if self.limit.seconds is not None:
            import asyncio  # noqa: PLC0415  # `import shifter` does without

            self._timer = asyncio.timeout(self.limit.seconds)
            await self._timer.__aenter__()
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._timer is not None:
                await self._timer.__aexit__(kind, error, trace)
        except TimeoutError as late:
            self.__exit__(TimeoutError, late, None)
            text = f"{self.endpoint.url} gave no answer in {self.limit.seconds:.3f} s"
            raise TimeoutError(text) from late
        self.__exit__(kind, error, trace)

    @property
    def _passed_s(self) -> float:
        return self._calls.clock.monotonic() - self._began

    @property
    def _is_over(self) -> bool:
        """Whether its time is up; timers are a little early or late."""
        if self._timer is not None and self._timer.expired():
            return True
        left_s = self.remaining_s
        return left_s is not None and left_s <= _TIMER_S

    def _verdict(self, error: BaseException | None) -> CallVerdict:
        if isinstance(error, TimeoutError) and self._is_over:
            if not self.limit.is_own:
                return CUT
            cause = cause_of(error, self._calls.dependency)
            return FAILURE._replace(cause=cause)
        return verdict_of(error, self._calls.dependency)


class EndpointCalls:
    """The tries of one call, each on another endpoint if there is one.

    Args:
        dependency: The dependency that is called.
        balancer: Its endpoints.
        caller: On behalf of which the call is made.
        clock: The clock of this process.
        key: What the call is about; only for ``choice="hash"``.

    Attributes:
        dependency: The dependency that is called.
        balancer: Its endpoints.
        caller: On behalf of which the call is made.
        clock: The clock of this process.
    """

    def __init__(
        self,
        dependency: Dependency,
        balancer: Balancer,
        caller: Caller,
        clock: Clock,
        key: str | None,
    ) -> None:
        self.dependency, self.balancer = dependency, balancer
        self.caller, self.clock = caller, clock
        self._key, self._tried = key, list[str]()
        self._until: float | None = None

    def end_after(self, total_ms: int | None) -> None:
        """Bound all tries together; they begin now."""
        if total_ms is not None:
            self._until = self.clock.monotonic() + total_ms / 1_000

    def wait_for_endpoints(self, timeout_ms: int | None) -> None:
        """Wait for the first look-up of a name, as long as a try may take.

        Args:
            timeout_ms: The timeout of a try; ``None`` for what is left.
        """
        first = self.balancer.first_lookup(self.clock.monotonic())
        if first is not None:
            first.wait(self._lookup_s(timeout_ms))

    async def endpoints_known(self, timeout_ms: int | None) -> None:
        """`wait_for_endpoints` for an event loop.

        Args:
            timeout_ms: The timeout of a try; ``None`` for what is left.
        """
        first = self.balancer.first_lookup(self.clock.monotonic())
        if first is not None:
            from shifter.runtime.threads import in_thread  # noqa: PLC0415  # needs asyncio

            await in_thread(first.wait, self._lookup_s(timeout_ms))

    def _lookup_s(self, timeout_ms: int | None) -> float:
        limit_s = self._limit(timeout_ms).seconds
        return _LOOKUP_S if limit_s is None else min(limit_s, _LOOKUP_S)

    def begin(self, timeout_ms: int | None, *, is_extra: bool) -> Try:
        """Begin a try.

        Args:
            timeout_ms: The longest that it may take; ``None`` for what is left.
            is_extra: Whether it is paid from the retry budget.

        Raises:
            RejectedError: A protection refuses it.
            NoEndpointError: No endpoint is known.
            DeadlineExceededError: There is no time left.
        """
        name = self.dependency.name
        limit = self._limit(timeout_ms)
        answer = self.caller.begin(name, is_extra=is_extra)
        if isinstance(answer, Rejected):
            raise REJECTIONS[answer.by](name, answer.wait_ms / 1_000)
        lease = self.balancer.lease(
            self.clock.monotonic(), key=self._key, tried=self._tried
        )
        if lease is None:
            if answer is not None:
                self.caller.release(answer)
            raise NoEndpointError(name, NO_ENDPOINT_S)
        self._tried.append(lease.endpoint.url)
        if answer is not None and limit.seconds is not None:
            answer.given_ms = int(limit.seconds * 1_000)
        return Try(self, answer, lease, limit)

    def _limit(self, timeout_ms: int | None) -> TryLimit:
        """The timeout of a try, or less if its caller has less."""
        name = self.dependency.name
        now, epoch_ms = self.clock.monotonic(), EpochMs(self.clock.epoch_ms())
        left: list[float] = []
        asked_ms = left_to_call_ms(epoch_ms, name)
        if asked_ms is not None:
            left.append(asked_ms / 1_000)
        if self.caller.limit is not None:
            left.append(self.caller.limit.until_ms / 1_000 - now)
        if self._until is not None:
            left.append(self._until - now)
        least_s = min(left, default=None)
        if least_s is not None and least_s <= 0:
            raise DeadlineExceededError(name, -least_s, what="call")
        own_s = None if timeout_ms is None else timeout_ms / 1_000
        if own_s is None or (least_s is not None and least_s < own_s):
            return TryLimit(least_s, is_own=False)
        return TryLimit(own_s, is_own=True)


class EndpointCall:
    """One try that begins where its block begins; see `Try`.

    Args:
        calls: Makes the try; called when the block begins.
        timeout_ms: The longest that it may take; ``None`` for what is left.
    """

    def __init__(
        self, calls: Callable[[], EndpointCalls], timeout_ms: int | None
    ) -> None:
        self._calls, self._timeout_ms = calls, timeout_ms
        self._try: Try | None = None

    def __enter__(self) -> Try:
        calls = self._calls()
        calls.wait_for_endpoints(self._timeout_ms)
        self._try = calls.begin(self._timeout_ms, is_extra=False)
        return self._try.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._try is not None:
            self._try.__exit__(kind, error, trace)

    async def __aenter__(self) -> Try:
        calls = self._calls()
        await calls.endpoints_known(self._timeout_ms)
        self._try = calls.begin(self._timeout_ms, is_extra=False)
        return await self._try.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._try is not None:
            await self._try.__aexit__(kind, error, trace)
