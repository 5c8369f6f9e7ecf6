"""One run of a handler, and what its end says."""

from __future__ import annotations

import asyncio
import enum
from concurrent.futures import Future
from typing import Any

from shifter.context import Context
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
from shifter.fleet.calls import SUCCESS, Caller, said_by
from shifter.model.duration import duration_ms
from shifter.model.time import EpochMs
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
from shifter.ports import Clock
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


class ProcessDiedError(RemoteError):
    """The process of its own in which a handler ran is gone."""

    def __init__(self, exit_code: int | None) -> None:
        message = f"the job's process ended with exit code {exit_code}"
        super().__init__(describe_error(ChildProcessError(message)))

    def __str__(self) -> str:
        return self.facts.message


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
        limit_ms: When its time is up, epoch milliseconds.
        expires_at: Monotonic seconds at which it is stopped.
        has_begun: Whether its task has run at all.
        was_refused: Whether its handler was refused a call, and let that pass.
        cancelled: Whether somebody asked that the job be cancelled.
        stop_for: What it is stopped for at ``expires_at``.
        stopped: Why it was stopped, once it was.
        task: The task that runs it.
        thread: What a thread of its own is to do, if one does.
        caller: In whose name its handler calls dependencies, if there are any.
        said: What its end says about its dependency.
        error: Facts of the failure, for a dead letter.
        started_at: Monotonic seconds.
    """

    __slots__ = (
        "_clock",
        "_context",
        "caller",
        "cancelled",
        "error",
        "expires_at",
        "has_begun",
        "item",
        "limit_ms",
        "said",
        "started_at",
        "stop_for",
        "stopped",
        "task",
        "thread",
        "was_refused",
    )

    def __init__(
        self, item: Item, clock: Clock, *, started_at: float, now_ms: int, limit_ms: int
    ) -> None:
        self.item, self._clock = item, clock
        self.started_at, self.limit_ms = started_at, now_ms + limit_ms
        self.expires_at = started_at + limit_ms / 1_000
        deadline_ms = item.envelope.deadline_ms
        is_last = deadline_ms is not None and self.limit_ms >= deadline_ms
        self.stop_for = Stop.DEADLINE if is_last else Stop.TIMEOUT
        self.stopped: Stop | None = None
        self.task: asyncio.Task[None] | None = None
        self.thread: Future[Any] | None = None
        self.caller: Caller | None = None
        self.said = SUCCESS
        self.error: ErrorFacts | None = None
        self.has_begun = self.cancelled = self.was_refused = False
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """What the handler may ask; made where it is wanted, which is rarely."""
        if self._context is None:
            envelope = self.item.envelope
            self._context = Context(
                job_id=envelope.id,
                job_type=envelope.type,
                attempt=self.item.attempt,
                fence=self.item.fence,
                limit_ms=EpochMs(self.limit_ms),
                clock=self._clock,
                key=envelope.key,
                idempotency_key=envelope.idempotency_key,
                traceparent=self.item.read.traceparent,
                quality=self.item.quality,
            )
            self._context.cancelled = self.cancelled
        return self._context

    def cancel_job(self) -> None:
        """Somebody asked that the job be cancelled: its handler may look."""
        self.cancelled = True
        if self._context is not None:
            self._context.cancelled = True

    def stop(self, why: Stop) -> None:
        """Cancel the handler; its outcome will say why.

        Calls that it makes are cut, although a thread may go on with them. A task
        cancelled before its first step would end without a word, so one that has not
        begun is only marked.
        """
        if self.stopped is None:
            self.stopped = why
            if self.caller is not None:
                self.caller.leave()
            if self.has_begun and self.task is not None:
                self.task.cancel()

    def outcome_of(self, error: BaseException) -> Outcome:
        """What an exception that left the handler means.

        Signals are answers; cancellation by the worker is what it was stopped for;
        everything else is a failure whose facts are kept.
        """
        self.said = said_by(error)
        if isinstance(error, asyncio.CancelledError) and self.stopped is not None:
            return self._stopped_outcome(self.stopped)
        if isinstance(error, Retry | Throttled | Discard | DeadLetter):
            return self._signal_outcome(error)
        if isinstance(error, JobCancelledError) and self.cancelled:
            return WasCancelled()
        if isinstance(error, DeadlineExceededError) and self._past_deadline():
            return Expired()
        if isinstance(error, RejectedError):
            return self._refused_outcome(error)
        return self.failed(
            error.facts if isinstance(error, RemoteError) else describe_error(error)
        )

    def failed(self, facts: ErrorFacts) -> Outcome:
        """A failure with its facts."""
        self.error = facts
        return Failed(facts.type)

    def _refused_outcome(self, error: RejectedError) -> Outcome:
        """A call was refused, and nothing was done: no attempt."""
        self.was_refused = True
        wait_ms = int(error.retry_in_s * 1_000)
        return ThrottledOutcome(max(wait_ms, _LEAST_THROTTLE_MS))

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
        return (
            self.stop_for is Stop.DEADLINE and self._clock.epoch_ms() >= self.limit_ms
        )
