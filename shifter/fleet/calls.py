"""Calls in the name of somebody: begun, refused, ended; for jobs, requests, blocks.

Whoever runs a handler says in whose name it calls (`CALLER`), so that a block around a
call (`shifter.api.dependency`) finds its priority and whether it is an extra execution.
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
from shifter.fleet.breaker import CallPermit
from shifter.fleet.protection import DependencyProtection, Rejected
from shifter.fleet.replica import FleetReplica
from shifter.model.duration import duration_ms
from shifter.model.priority import Priority
from shifter.policy.protection.circuit import Permit
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.protection.evidence import CallOutcome
from shifter.policy.protection.failures import is_failure
from shifter.policy.protection.local_circuit import CallEnd
from shifter.ports import Clock


class CallVerdict(NamedTuple):
    """What the end of a call says about the dependency.

    Attributes:
        outcome: What it says; of a call that was cut, nothing yet.
        after_ms: How long the dependency asked to be left alone, if it did.
        was_cut: Whether the caller stopped waiting: what it says depends on how long
            the call had run
            (`shifter.policy.protection.local_circuit.LocalCircuit.judged`).
    """

    outcome: CallOutcome
    after_ms: int | None = None
    was_cut: bool = False


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
        shield: Of its dependency.
        leave: What it was made with.
        began_ms: When, by this process's monotonic clock.
        given_ms: The timeout it has, >= 0; ``None`` if that is not known.
        has_ended: Whether its end was noted.
        is_childs: Whether a child process makes it, and counts it unless it is killed.
    """

    shield: DependencyProtection
    leave: CallPermit
    began_ms: int
    given_ms: int | None = None
    has_ended: bool = False
    is_childs: bool = False


class TimeLimit(NamedTuple):
    """The timeout of the handler that makes calls, by the monotonic clock.

    Attributes:
        from_ms: When the handler began.
        until_ms: When its timeout passes.
    """

    from_ms: int
    until_ms: int

    def given_ms(self, now_ms: int) -> int | None:
        """What a call has of it; ``None`` for one begun in the second half.

        The handler used up the time of such a call: a cut does not speak against the
        dependency for that reason alone.

        >>> TimeLimit(1_000, 3_000).given_ms(1_500), TimeLimit(0, 100).given_ms(60)
        (1500, None)
        """
        left_ms = self.until_ms - now_ms
        is_most = 2 * left_ms >= self.until_ms - self.from_ms
        return left_ms if is_most else None


class Calls:
    """Calls to the dependencies of one board. Safe to share between threads.

    Args:
        board: What is known of them.
        clock: Monotonic.
    """

    def __init__(self, board: FleetReplica, clock: Clock) -> None:
        self.board, self._clock = board, clock

    def begin(
        self,
        shield: DependencyProtection,
        priority: Priority,
        *,
        is_extra: bool,
        limit: TimeLimit | None = None,
    ) -> ActiveCall | Rejected:
        """Ask for leave; whatever it takes is taken.

        Args:
            shield: Of the dependency.
            priority: Of the job or the request.
            is_extra: Whether it is a retry or a replay.
            limit: The timeout of the handler; ``None`` if that is not known.
        """
        now_ms = self._now_ms()
        with self.board.lock:
            answer = shield.admit(priority, is_extra=is_extra, now_ms=now_ms)
        if isinstance(answer, Rejected):
            return answer
        given_ms = None if limit is None else limit.given_ms(now_ms)
        return ActiveCall(shield, answer, now_ms, given_ms)

    def adopt(
        self, shield: DependencyProtection, permit: Permit, limit: TimeLimit | None
    ) -> ActiveCall:
        """A call that a child process makes; as of `Caller.adopt`."""
        now_ms = self._now_ms()
        with self.board.lock:
            leave = shield.breaker.of_child(permit)
        given_ms = None if limit is None else limit.given_ms(now_ms)
        return ActiveCall(shield, leave, now_ms, given_ms, is_childs=True)

    def end(self, begun: ActiveCall, said: CallVerdict) -> None:
        """Note what a call came to; of no effect on one that has ended."""
        shield, now_ms = begun.shield, self._now_ms()
        took_ms = now_ms - begun.began_ms
        end = CallEnd(
            said.outcome, took_ms, said.after_ms, said.was_cut, begun.given_ms
        )
        with self.board.lock:
            if begun.has_ended:
                return
            begun.has_ended = True
            noted = shield.child_ended if begun.is_childs else shield.ended
            has_changed = noted(begun.leave, end, now_ms=now_ms)
            is_urgent = has_changed or shield.circuit.is_urgent
        if is_urgent:
            self.board.urge(shield if has_changed else None)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000)


class CallWatch(Protocol):
    """Follows the calls of a caller."""

    def began(self, begun: ActiveCall) -> None:
        """A call begins."""

    def ended(self, begun: ActiveCall, said: CallVerdict) -> None:
        """A call ended."""


@dataclass(slots=True, eq=False)
class Caller:
    """In whose name calls are made. Safe to share between threads.

    Attributes:
        calls: To the dependencies of this process.
        priority: Of the job or the request.
        is_extra: Whether it is a retry or a replay.
        holds: The dependency whose leave it has already, if there is one.
        refused: Called with each refusal.
        limit: The timeout of the handler; ``None`` if that is not known.
        watch: Follows its calls, if anything does.
        under_way: Calls that have not ended.
    """

    calls: Calls
    priority: Priority = Priority.NORMAL
    is_extra: bool = False
    holds: str | None = None
    refused: Callable[[Dependency, Protection], None] = lambda *_: None
    limit: TimeLimit | None = None
    watch: CallWatch | None = None
    under_way: dict[ActiveCall, None] = field(default_factory=dict)

    def begin(self, name: str) -> ActiveCall | Rejected | None:
        """Ask for leave; ``None`` where none is needed."""
        shield = self.calls.board.shields.get(name)
        if shield is None or name == self.holds:
            return None
        answer = self.calls.begin(
            shield, self.priority, is_extra=self.is_extra, limit=self.limit
        )
        if isinstance(answer, Rejected):
            self.refused(shield.dependency, answer.by)
            return answer
        self.under_way[answer] = None
        if self.watch is not None:
            self.watch.began(answer)
        return answer

    def adopt(self, name: str, permit: Permit) -> ActiveCall | None:
        """A call that a child process of this one makes in this name.

        Args:
            name: Of the dependency.
            permit: What the child has of the fleet's circuit.
        """
        shield = self.calls.board.shields.get(name)
        if shield is None:
            return None
        begun = self.calls.adopt(shield, permit, self.limit)
        self.under_way[begun] = None
        return begun

    def end(self, begun: ActiveCall, said: CallVerdict) -> None:
        """Note what a call came to."""
        self.under_way.pop(begun, None)
        self.calls.end(begun, said)
        if self.watch is not None:
            self.watch.ended(begun, said)

    def leave(self) -> None:
        """The handler was given up: its calls are cut.

        A thread cannot be stopped, so a call that it makes may outlast its handler.
        """
        while self.under_way:
            with contextlib.suppress(KeyError):  # a thread was faster
                self.calls.end(self.under_way.popitem()[0], CUT)


class CallerFacts(NamedTuple):
    """What a `Caller` is made of where a handler runs in a process of its own.

    Attributes:
        priority: As of `Caller`, like the others.
        is_extra: See there.
        holds: See there.
        watch: See there.
    """

    priority: Priority
    is_extra: bool
    holds: str | None
    watch: CallWatch


CALLER: Final[ContextVar[Caller | None]] = ContextVar("shifter_caller", default=None)
ROLE: Final[ContextVar[CallerFacts | None]] = ContextVar("shifter_role", default=None)


def said_by(error: BaseException | None, dependency: Dependency | None) -> CallVerdict:
    """What the end of a call says about its dependency.

    Args:
        error: What the call raised; ``None`` if it returned.
        dependency: What was called; ``None`` if that is not known.
    """
    if error is None:
        return SUCCESS
    if isinstance(error, BaseExceptionGroup):
        found = [said_by(one, dependency) for one in error.exceptions]
        return max(found, key=lambda said: _WEIGHT[said.outcome])
    if isinstance(error, Throttled):
        after_ms = None
        with contextlib.suppress(ConfigError):
            after_ms = None if error.after is None else duration_ms("", error.after)
        return CallVerdict(CallOutcome.THROTTLED, after_ms)
    if isinstance(error, RejectedError | Discard | DeadLetter | JobCancelledError):
        return IGNORED
    # A cancellation, and whatever else ends a handler from outside, is no `Exception`.
    if isinstance(error, DeadlineExceededError) or not isinstance(error, Exception):
        return CUT
    return FAILURE if dependency is None or _fails(dependency, error) else IGNORED


def _fails(dependency: Dependency, error: Exception) -> bool:
    """As the dependency says; a retry that is asked for is judged by its cause."""
    cause = error.__cause__ if isinstance(error, Retry) else None
    told = error if cause is None else cause
    try:
        return is_failure(told, dependency.failures, dependency.ignore)
    except Exception:  # noqa: BLE001  # the user's function: it decides nothing then
        return True
