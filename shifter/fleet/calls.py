"""Calls in the name of somebody: begun, refused, ended; for jobs, requests, blocks.

Whoever runs a handler says in whose name it calls (`CALLER`), so that a block around a
call (`shifter.dependency`) finds its priority and whether it is an extra execution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, NamedTuple

from shifter.errors import ConfigError, DeadLetter, Discard, RejectedError, Throttled
from shifter.fleet.board import FleetBoard
from shifter.fleet.breaker import Leave
from shifter.fleet.shield import Held, Shield
from shifter.model.duration import duration_ms
from shifter.model.priority import Priority
from shifter.policy.dependency import Dependency, Protection
from shifter.policy.evidence import CallOutcome
from shifter.policy.guard import CallEnd
from shifter.ports import Clock


class Begun(NamedTuple):
    """A call under way."""

    shield: Shield
    leave: Leave
    began_ms: int


class Calls:
    """Calls to the dependencies of one board. Safe to share between threads.

    Args:
        board: What is known of them.
        clock: Monotonic.
    """

    def __init__(self, board: FleetBoard, clock: Clock) -> None:
        self.board, self._clock = board, clock

    def begin(
        self, shield: Shield, priority: Priority, *, is_extra: bool
    ) -> Begun | Held:
        """Ask for leave; whatever it takes is taken."""
        now_ms = self._now_ms()
        with self.board.lock:
            answer = shield.admit(priority, is_extra=is_extra, now_ms=now_ms)
        return answer if isinstance(answer, Held) else Begun(shield, answer, now_ms)

    def end(
        self, begun: Begun, outcome: CallOutcome, after_ms: int | None = None
    ) -> None:
        """Note what a call came to.

        Args:
            begun: The call.
            outcome: What it says about the dependency.
            after_ms: How long the dependency asked to be left alone, if it did.
        """
        shield, now_ms = begun.shield, self._now_ms()
        end = CallEnd(outcome, now_ms - begun.began_ms, after_ms)
        with self.board.lock:
            has_changed = shield.ended(begun.leave, end, now_ms=now_ms)
            is_urgent = has_changed or shield.circuit.is_urgent
        if is_urgent:
            self.board.urge(shield if has_changed else None)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000)


class Caller(NamedTuple):
    """In whose name calls are made.

    Attributes:
        calls: To the dependencies of this process.
        priority: Of the job or the request.
        is_extra: Whether it is a retry or a replay.
        holds: The dependency whose leave it has already, if there is one.
        refused: Told of every refusal.
    """

    calls: Calls
    priority: Priority = Priority.NORMAL
    is_extra: bool = False
    holds: str | None = None
    refused: Callable[[Dependency, Protection], None] = lambda *_: None

    def begin(self, name: str) -> Begun | Held | None:
        """Ask for leave; ``None`` where none is needed."""
        shield = self.calls.board.shields.get(name)
        if shield is None or name == self.holds:
            return None
        answer = self.calls.begin(shield, self.priority, is_extra=self.is_extra)
        if isinstance(answer, Held):
            self.refused(shield.dependency, answer.by)
        return answer


CALLER: Final[ContextVar[Caller | None]] = ContextVar("shifter_caller", default=None)


def said_by(error: BaseException | None) -> tuple[CallOutcome, int | None]:
    """What the end of a call says about the dependency, and the rest it asks for."""
    if error is None:
        return CallOutcome.SUCCESS, None
    if isinstance(error, Throttled):
        after_ms = None
        with contextlib.suppress(ConfigError):
            after_ms = None if error.after is None else duration_ms("", error.after)
        return CallOutcome.THROTTLED, after_ms
    is_answer = isinstance(error, RejectedError | Discard | DeadLetter)
    is_failure = isinstance(error, Exception) and not is_answer
    return CallOutcome.FAILURE if is_failure else CallOutcome.IGNORED, None
