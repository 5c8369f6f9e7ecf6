"""Calls to dependencies, made on behalf of a job or a request.

Services and workers share this path: `Caller.begin` asks the dependency's protection
(`shifter.fleet.protection`) for a permit, `Caller.end` reports how the call ended. The
code that runs a handler sets `CALLER`, so that a block around a call
(`shifter.api.dependency`) finds the priority and whether it is an extra execution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from shifter.errors import (
    ConfigError,
    DeadLetter,
    DeadlineExceededError,
    Discard,
    JobCancelledError,
    RejectedError,
    Retry,
    Throttled,
)
from shifter.fleet.guards import CallPermit
from shifter.fleet.protection import DependencyProtection, Rejected
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.policy.failure_cause import (
    MAX_KIND_CHARS,
    MAX_TEXT_CHARS,
    FailureCause,
)
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import Permit
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.protection.failure_kinds import cooldown_for, is_failure
from shifter.wire.failure import failure_text


class CallVerdict(NamedTuple):
    """What the end of a call implies about the dependency.

    Attributes:
        outcome: The outcome; ``IGNORED`` for a call that was cut.
        after_ms: How long the dependency asked not to be called, if it did.
        was_cut: Whether the caller stopped waiting. Then the outcome depends on how
            long the call had run
            (`shifter.policy.protection.circuit.local.LocalCircuit.judged`).
        cause: Why the call failed; ``None`` if it did not, or that is not known.
    """

    outcome: CallOutcome
    after_ms: int | None = None
    was_cut: bool = False
    cause: FailureCause | None = None


SUCCESS: Final = CallVerdict(CallOutcome.SUCCESS)
IGNORED: Final = CallVerdict(CallOutcome.IGNORED)
FAILURE: Final = CallVerdict(CallOutcome.FAILURE)
CUT: Final = CallVerdict(CallOutcome.IGNORED, was_cut=True)
_WEIGHT: Final = {
    CallOutcome.SUCCESS: 0,
    CallOutcome.IGNORED: 1,
    CallOutcome.THROTTLED: 2,
    CallOutcome.FAILURE: 3,
}


@dataclass(slots=True, eq=False)
class ActiveCall:
    """A call under way; it ends once.

    Attributes:
        protection: The protection of the dependency that is called.
        permit: The permit that the call was made with.
        began_ms: When it began, by this process's monotonic clock.
        given_ms: The call's timeout, >= 0; ``None`` if that is not known.
        has_ended: Whether its end was noted.
        is_childs: Whether a child process makes the call. The child counts it, unless
            the child is killed.
        at_end: Called with its verdict when it has ended, if that is set.
    """

    protection: DependencyProtection
    permit: CallPermit
    began_ms: int
    given_ms: int | None = None
    has_ended: bool = False
    is_childs: bool = False
    at_end: Callable[[CallVerdict], None] | None = None


class TimeLimit(NamedTuple):
    """The timeout of the handler that makes calls, by the monotonic clock.

    Attributes:
        from_ms: When the handler began.
        until_ms: When its timeout passes.
    """

    from_ms: int
    until_ms: int

    def given_ms(self, now_ms: int) -> int | None:
        """Return the timeout of a call that begins now.

        ``None`` for a call that begins in the second half: the handler used up most of
        the time itself, so a cut alone does not implicate the dependency.

        >>> TimeLimit(1_000, 3_000).given_ms(1_500), TimeLimit(0, 100).given_ms(60)
        (1500, None)
        """
        left_ms = self.until_ms - now_ms
        is_most = 2 * left_ms >= self.until_ms - self.from_ms
        return left_ms if is_most else None


class CallWatch(Protocol):
    """Follows the calls of a caller."""

    def began(self, begun: ActiveCall) -> None:
        """Note that a call began."""

    def ended(self, begun: ActiveCall, verdict: CallVerdict) -> None:
        """Note that a call ended."""


@dataclass(slots=True, eq=False)
class Caller:
    """Makes calls on behalf of one job or request. Safe to share between threads.

    Attributes:
        replica: The dependencies of this process.
        priority: The priority of the job or the request.
        is_extra: Whether it is a retry or a replay.
        holds: The dependency whose permit it holds already; calls to it pass.
        refused: Called with each refusal.
        limit: The timeout of the handler; ``None`` if that is not known.
        watch: Follows the calls, if anything does.
        under_way: Calls that have not ended.
    """

    replica: FleetReplica
    priority: Priority = Priority.NORMAL
    is_extra: bool = False
    holds: str | None = None
    refused: Callable[[Dependency, Protection], None] = lambda *_: None
    limit: TimeLimit | None = None
    watch: CallWatch | None = None
    under_way: dict[ActiveCall, None] = field(default_factory=dict)

    def begin(
        self, name: str, *, is_extra: bool = False
    ) -> ActiveCall | Rejected | None:
        """Ask for a permit to call a dependency.

        Args:
            name: The dependency's.
            is_extra: Whether it is a retry or a hedge of a call that was permitted.

        Returns:
            The call, which must be ended or released; the refusal; or ``None`` if no
            permit is needed.
        """
        replica = self.replica
        protection = replica.protections.get(name)
        if protection is None or (name == self.holds and not is_extra):
            return None
        now_ms = replica.now_ms()
        with replica.lock:
            answer = protection.admit(
                self.priority,
                is_extra=self.is_extra or is_extra,
                now_ms=now_ms,
                is_prompt=is_extra,
            )
        if isinstance(answer, Rejected):
            self.refused(protection.dependency, answer.by)
            return answer
        call = self._active(protection, answer, now_ms)
        if self.watch is not None:
            self.watch.began(call)
        return call

    @property
    def held(self) -> ActiveCall | None:
        """The call that the whole handler is, if its job names a dependency."""
        for call in list(self.under_way):
            if call.protection.dependency.name == self.holds:
                return call
        return None

    def adopt(self, name: str, permit: Permit) -> ActiveCall | None:
        """Follow a call that a child process makes on behalf of this caller.

        Args:
            name: The dependency's.
            permit: The child's permit of the fleet's circuit.
        """
        replica = self.replica
        protection = replica.protections.get(name)
        if protection is None:
            return None
        now_ms = replica.now_ms()
        with replica.lock:
            own_permit = Permit(protection.breaker.own.state.generation)
        call = self._active(protection, CallPermit(permit, own_permit), now_ms)
        call.is_childs = True
        return call

    def release(self, call: ActiveCall) -> None:
        """Return the permit of a call that is not made."""
        self.under_way.pop(call, None)
        now_ms = self.replica.now_ms()
        with self.replica.lock:
            call.protection.release(call.permit, now_ms=now_ms)

    def end(self, call: ActiveCall, verdict: CallVerdict) -> None:
        """Note how a call ended; the first end counts."""
        self.under_way.pop(call, None)
        self._end(call, verdict)
        if self.watch is not None:
            self.watch.ended(call, verdict)

    def cut(self) -> None:
        """End all calls under way: the handler was given up.

        A thread cannot be stopped, so a call that it makes may outlast its handler.
        """
        while self.under_way:
            with contextlib.suppress(KeyError):  # another thread ended it meanwhile
                self._end(self.under_way.popitem()[0], CUT)

    def _active(
        self, protection: DependencyProtection, permit: CallPermit, now_ms: int
    ) -> ActiveCall:
        given_ms = None if self.limit is None else self.limit.given_ms(now_ms)
        call = ActiveCall(protection, permit, now_ms, given_ms)
        self.under_way[call] = None
        return call

    def _end(self, call: ActiveCall, verdict: CallVerdict) -> None:
        replica, protection = self.replica, call.protection
        now_ms = replica.now_ms()
        end = CallEnd(
            verdict.outcome,
            now_ms - call.began_ms,
            verdict.after_ms,
            verdict.was_cut,
            call.given_ms,
            verdict.cause,
        )
        with replica.lock:
            if call.has_ended:
                return
            call.has_ended = True
            noted = protection.child_ended if call.is_childs else protection.ended
            has_changed = noted(call.permit, end, now_ms=now_ms)
            is_urgent = has_changed or protection.circuit.is_urgent
        # Outside of the lock: observers run user code.
        if call.at_end is not None:
            call.at_end(verdict)
        if is_urgent:
            replica.urge(protection if has_changed else None)


class CallerFacts(NamedTuple):
    """The attributes of a `Caller` whose handler runs in a child process.

    Attributes:
        priority: The priority of the job.
        is_extra: Whether it is a retry or a replay.
        holds: The dependency whose permit it holds already.
        watch: Reports the calls to the parent process.
    """

    priority: Priority
    is_extra: bool
    holds: str | None
    watch: CallWatch


CALLER: Final[ContextVar[Caller | None]] = ContextVar("shifter_caller", default=None)
ROLE: Final[ContextVar[CallerFacts | None]] = ContextVar("shifter_role", default=None)


def verdict_of(
    error: BaseException | None, dependency: Dependency | None
) -> CallVerdict:
    """Return what the end of a call implies about its dependency.

    Args:
        error: The exception that the call raised; ``None`` if it returned.
        dependency: The dependency that was called; ``None`` if that is not known.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, BaseExceptionGroup):
        found = [verdict_of(one, dependency) for one in error.exceptions]
        return max(found, key=_weight)
    if isinstance(error, Throttled):
        after_ms = None
        with contextlib.suppress(ConfigError):
            after_ms = None if error.after is None else duration_ms("", error.after)
        cause = cause_of(error, dependency)
        return CallVerdict(CallOutcome.THROTTLED, after_ms, cause=cause)
    if isinstance(error, RejectedError | Discard | DeadLetter | JobCancelledError):
        return IGNORED
    # A cancellation, and whatever else ends a handler from outside, is no `Exception`.
    if isinstance(error, DeadlineExceededError) or not isinstance(error, Exception):
        return CUT
    is_none = dependency is not None and not _fails(dependency, error)
    return IGNORED if is_none else _failure(error, dependency)


def cause_of(error: BaseException, dependency: Dependency | None) -> FailureCause:
    """Why a call failed; a signal such as `Retry` is described by its cause.

    Args:
        error: The exception that the call raised.
        dependency: The dependency that was called; ``None`` if that is not known.
    """
    judged = _judged(error)
    kind, message = failure_text(judged, MAX_KIND_CHARS, MAX_TEXT_CHARS)
    rules = {} if dependency is None else dependency.cooldowns_ms
    return FailureCause(kind, 1, message, cooldown_for(judged, rules))


def _failure(error: Exception, dependency: Dependency | None) -> CallVerdict:
    return CallVerdict(CallOutcome.FAILURE, cause=cause_of(error, dependency))


def _weight(verdict: CallVerdict) -> tuple[int, int]:
    cooldown_ms = 0 if verdict.cause is None else verdict.cause.cooldown_ms
    return _WEIGHT[verdict.outcome], cooldown_ms


def _judged(error: BaseException) -> BaseException:
    is_signal = isinstance(error, Retry | Throttled)
    return (error.__cause__ or error) if is_signal else error


def _fails(dependency: Dependency, error: Exception) -> bool:
    """Whether the error counts as a failure; a `Retry` is judged by its cause."""
    try:
        return is_failure(_judged(error), dependency.failures, dependency.ignore)
    except Exception:  # noqa: BLE001  # the user's function failed: count the error
        return True
