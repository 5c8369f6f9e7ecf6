"""One run of a handler, and what its end says."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

from shifter.context import Context
from shifter.errors import (
    ConfigError,
    DeadLetter,
    DeadlineExceededError,
    Discard,
    JobCancelledError,
    Retry,
    Throttled,
)
from shifter.model.duration import duration_ms
from shifter.policy.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    Outcome,
    RetryAsked,
    Succeeded,
    Throttled as ThrottledOutcome,
    WasCancelled,
)
from shifter.wire.failure import ErrorFacts, describe_error
from shifter.work.item import Item

SUCCEEDED = Succeeded()
INTERRUPTED = Interrupted()
_LEAST_THROTTLE_MS = 100
"""An uncharged wait of nothing would go round for ever."""


class RemoteError(Exception):
    """A handler failed in a process of its own; carries the facts across."""

    def __init__(self, facts: ErrorFacts) -> None:
        self.facts = facts
        super().__init__(facts.message)


class Stop(enum.Enum):
    """Why a running attempt was cancelled by the worker itself."""

    TIMEOUT = enum.auto()
    DEADLINE = enum.auto()
    LEASE_LOST = enum.auto()
    SHUTDOWN = enum.auto()


class Attempt:
    """A running attempt.

    Attributes:
        item: What is run.
        context: What the handler may ask; made for every attempt.
        expires_at: Monotonic seconds at which it is stopped.
        stop_for: What it is stopped for at ``expires_at``.
        stopped: Why it was stopped, once it was.
        task: The task that runs it.
        error: Facts of the failure, for a dead letter.
        started_at: Monotonic seconds.
    """

    __slots__ = (
        "context",
        "error",
        "expires_at",
        "item",
        "started_at",
        "stop_for",
        "stopped",
        "task",
    )

    def __init__(
        self,
        item: Item,
        context: Context,
        *,
        now: float,
        limit_s: float,
        stop_for: Stop,
    ) -> None:
        self.item, self.context = item, context
        self.started_at, self.expires_at = now, now + limit_s
        self.stop_for = stop_for
        self.stopped: Stop | None = None
        self.task: asyncio.Task[Any] | None = None
        self.error: ErrorFacts | None = None

    def stop(self, why: Stop) -> None:
        """Cancel the handler; its outcome will say why."""
        if self.stopped is None and self.task is not None:
            self.stopped = why
            self.task.cancel()

    def outcome_of(self, error: BaseException) -> Outcome:
        """What an exception that left the handler means.

        Signals are answers; cancellation by the worker is what it was stopped for;
        everything else is a failure whose facts are kept.
        """
        if isinstance(error, asyncio.CancelledError) and self.stopped is not None:
            return self._stopped_outcome(self.stopped)
        if isinstance(error, Retry | Throttled | Discard | DeadLetter):
            return self._signal_outcome(error)
        if isinstance(error, JobCancelledError) and self.context.cancelled:
            return WasCancelled()
        if isinstance(error, DeadlineExceededError) and self._past_deadline():
            return Expired()
        if isinstance(error, RemoteError):
            return self.failed(error.facts)
        return self.failed(describe_error(error))

    def failed(self, facts: ErrorFacts) -> Outcome:
        """A failure with its facts."""
        self.error = facts
        return Failed(facts.type)

    def _stopped_outcome(self, why: Stop) -> Outcome:
        if why is Stop.DEADLINE:
            return Expired()
        if why is Stop.TIMEOUT:
            limit_s = self.expires_at - self.started_at
            return self.failed(
                describe_error(TimeoutError(f"attempt ran longer than {limit_s:.3f} s"))
            )
        return INTERRUPTED

    def _signal_outcome(
        self, signal: Retry | Throttled | Discard | DeadLetter
    ) -> Outcome:
        if isinstance(signal, Discard):
            return Discarded(signal.reason)
        self.error = describe_error(signal.__cause__ or signal)
        if isinstance(signal, DeadLetter):
            return DeadLettered(signal.reason)
        try:
            after_ms = (
                None if signal.after is None else duration_ms("after", signal.after)
            )
        except ConfigError as error:
            return self.failed(describe_error(error))
        if isinstance(signal, Retry):
            return RetryAsked(after_ms)
        return ThrottledOutcome(max(after_ms or 0, _LEAST_THROTTLE_MS))

    def _past_deadline(self) -> bool:
        return self.stop_for is Stop.DEADLINE and self.context.remaining_s <= 0
