"""One run of a handler: its time limit, how it is stopped, and its outcome."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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
from shifter.fleet.calls import SUCCESS, Caller, CallVerdict, verdict_of
from shifter.jobs.context import Context
from shifter.model.time import EpochMs, duration_ms
from shifter.policy.delivery.error_rules import RETRIED, Ruling, ruling_of
from shifter.policy.delivery.job_limits import attempt_limit_ms
from shifter.policy.delivery.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    Outcome,
    RetryAsked,
    Succeeded,
    ThrottledOutcome,
    WasCancelled,
)
from shifter.ports import Clock
from shifter.wire.failure import ErrorFacts, describe_error
from shifter.work.item import Item

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SUCCEEDED = Succeeded()
INTERRUPTED = Interrupted()
STOP_AGAIN_S: Final = 5.0
"""How long a handler that was stopped may clean up before it is stopped again."""
STOP_GRACE_S: Final = 10.0
"""A handler that has not ended so long after it was stopped does not end by itself."""
LEAVE_GRACE_S: Final = 5.0
"""The grace of `STOP_GRACE_S` during a shutdown, when the process ends soon anyway."""
_LEAST_THROTTLE_MS = 100
"""The least uncharged wait: a wait of 0 would repeat without end."""


class RemoteError(Exception):
    """A handler failed in a child process; carries the facts to the worker.

    Attributes:
        facts: Of the failure.
        ruling: What follows it, as judged in the child, which has the error itself.
    """

    def __init__(self, facts: ErrorFacts, ruling: Ruling = RETRIED) -> None:
        self.facts, self.ruling = facts, ruling
        super().__init__(facts.message)


class ProcessDiedError(RemoteError):
    """The child process in which a handler ran has died."""

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


_TIMEOUT: Final = Stop.TIMEOUT
"""Looked up once: Python 3.11 takes 70 ns for a member of an enumeration."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A running attempt.

    Attributes:
        item: What is run.
        clock: Reads the time.
        timeout_ms: How long it may run, > 0; less where its deadline comes first.
        limit_ms: When its time is up, epoch milliseconds.
        expires_at: Monotonic seconds at which it is stopped, or stopped again.
        has_begun: Whether its task has run at all.
        was_refused: Whether its handler was refused a call, and let that pass.
        cancelled: Whether a cancel of the job was requested.
        stop_for: The reason for which it is stopped at ``expires_at``.
        stopped: The reason for which it was stopped; ``None`` before.
        stopped_at: Monotonic seconds at which it was stopped.
        is_stuck: Whether it was stopped and did not end within the grace.
        task: The task that runs it.
        caller: Counts the calls to dependencies that its handler makes.
        verdict: What its end implies about its dependency; a child process judges its
            own.
        error: Facts of the failure, for a dead letter.
        span: Its span, if it is traced.
        awaits_span: Whether its span begins once its process is ready.
        started_at: Monotonic seconds.
        started_ms: The same instant by the wall clock.
    """

    item: Item
    clock: Clock
    timeout_ms: int = field(kw_only=True)
    limit_ms: int = field(init=False)
    expires_at: float = field(init=False)
    has_begun: bool = field(init=False, default=False)
    was_refused: bool = field(init=False, default=False)
    cancelled: bool = field(init=False, default=False)
    stop_for: Stop = field(init=False)
    stopped: Stop | None = field(init=False, default=None)
    stopped_at: float = field(init=False, default=0.0)
    is_stuck: bool = field(init=False, default=False)
    task: asyncio.Task[None] | None = field(init=False, default=None)
    caller: Caller | None = field(init=False, default=None)
    verdict: CallVerdict = field(init=False, default=SUCCESS)
    error: ErrorFacts | None = field(init=False, default=None)
    span: Span | None = field(init=False, default=None)
    awaits_span: bool = field(init=False, default=False)
    started_at: float = field(init=False)
    started_ms: int = field(init=False)
    _given_ms: int = field(init=False)
    _starts_within_s: float | None = field(init=False, default=None)
    _interrupt: Callable[[], object] | None = field(init=False, default=None)
    _context: Context | None = field(init=False, default=None)

    def begin(self, now: float, now_ms: EpochMs) -> None:
        """Let the time of the attempt begin: its timeout, or less up to its deadline.

        Args:
            now: Monotonic seconds.
            now_ms: Wall clock.
        """
        deadline_ms = self.item.envelope.deadline_ms
        limit_ms, self.stop_for = self.timeout_ms, _TIMEOUT
        if deadline_ms is not None:
            limit_ms = attempt_limit_ms(limit_ms, deadline_ms, now_ms)
            if now_ms + limit_ms >= deadline_ms:
                self.stop_for = Stop.DEADLINE
        self.started_at, self.started_ms = now, now_ms
        self.limit_ms = now_ms + limit_ms
        self._given_ms = limit_ms
        self._starts_within_s = None
        self.expires_at = now + limit_ms / 1_000
        self._context = None

    def wait_to_begin(self, most_s: float) -> None:
        """Let its process start first; `begin` is called once more when it has.

        Args:
            most_s: Stop the attempt if that takes longer. Its deadline holds as well.
        """
        if self.stop_for is Stop.TIMEOUT:
            self._starts_within_s = most_s
            now = self.clock.monotonic()
            until = now + most_s
            deadline_ms = self.item.envelope.deadline_ms
            if deadline_ms is not None:
                left_s = (deadline_ms - self.clock.epoch_ms()) / 1_000
                until = min(until, now + left_s)
            self.expires_at = until

    @property
    def context(self) -> Context:
        """The handler's context; made on first use, since few handlers take one."""
        if self._context is None:
            envelope, job = self.item.envelope, self.item.job
            self._context = Context(
                job_id=envelope.id,
                job_type=envelope.type,
                attempt=self.item.attempt,
                fence=self.item.fence,
                limit_ms=EpochMs(self.limit_ms),
                clock=self.clock,
                key=envelope.key,
                idempotency_key=envelope.idempotency_key,
                traceparent=self.item.read.traceparent,
                quality=self.item.quality,
                dependency=None if job is None else job.dependency,
            )
            self._context.cancelled = self.cancelled
        return self._context

    def cancel_job(self) -> None:
        """Set the cancel flag that the handler can read."""
        self.cancelled = True
        if self._context is not None:
            self._context.cancelled = True

    def stop(self, why: Stop) -> None:
        """Cancel the handler and cut its calls; its outcome will name the reason.

        The attempt goes on until its handler has really ended.
        """
        if self.stopped is None:
            self.stopped, self.stopped_at = why, self.clock.monotonic()
            if self.caller is not None:
                self.caller.cut()
            self.stop_again()

    def stop_again(self) -> None:
        """Cancel a handler that goes on although it was stopped.

        A task that is cancelled before its first step never runs its cleanup, so one
        that has not begun is only marked.
        """
        now = self.clock.monotonic()
        self.expires_at = now + STOP_AGAIN_S
        grace_s = LEAVE_GRACE_S if self.stopped is Stop.SHUTDOWN else STOP_GRACE_S
        self.is_stuck = now >= self.stopped_at + grace_s
        if self._interrupt is not None:
            self._interrupt()
        elif self.has_begun and self.task is not None:
            self.task.cancel()

    def stoppable_by(self, interrupt: Callable[[], object] | None) -> None:
        """Set how the handler is cancelled from now on; ``None`` cancels its task.

        A stop that came before is carried out now.
        """
        self._interrupt = interrupt
        if self.stopped is not None:
            self.stop_again()

    def overdue_s(self, now: float) -> float:
        """Seconds since it was stopped; 0 while it was not."""
        return 0.0 if self.stopped is None else now - self.stopped_at

    def outcome_of(self, error: BaseException) -> Outcome:
        """The outcome that an exception raised by the handler means.

        A signal (`Retry`, `Throttled`, `Discard`, `DeadLetter`) is an answer. A
        cancellation by the worker gives the reason for which the attempt was stopped;
        so does any exception during a shutdown. Every other exception is a failure
        whose facts are kept.
        """
        if self.verdict is SUCCESS:
            job = self.item.job
            self.verdict = verdict_of(error, None if job is None else job.dependency)
        if isinstance(error, Retry | Throttled | Discard | DeadLetter):
            return self._signal_outcome(error)
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self.stopped is Stop.SHUTDOWN or (is_cancelled and self.stopped is not None):
            return self._stopped_outcome(self.stopped)
        if isinstance(error, JobCancelledError) and self.cancelled:
            return WasCancelled()
        if isinstance(error, DeadlineExceededError) and self._past_deadline():
            return Expired()
        if isinstance(error, RejectedError):
            return self._refused_outcome(error)
        return self.failed(error)

    def failed(self, error: BaseException) -> Outcome:
        """A failure with its facts, and what follows it by the job's rules."""
        self.error = facts = _facts(error)
        return Failed(facts.type, self._ruling(error))

    def _ruling(self, error: BaseException) -> Ruling:
        job = self.item.job
        if job is None:
            return RETRIED
        if isinstance(error, ProcessDiedError):
            error = ChildProcessError()
        elif isinstance(error, RemoteError):
            return error.ruling
        return ruling_of(error, job.spec.error_rules)

    def _refused_outcome(self, error: RejectedError) -> Outcome:
        """A dependency refused the call, so no attempt is charged."""
        self.was_refused = True
        wait_ms = int(error.retry_in_s * 1_000)
        return ThrottledOutcome(max(wait_ms, _LEAST_THROTTLE_MS))

    def _stopped_outcome(self, why: Stop) -> Outcome:
        if why is Stop.DEADLINE:
            return Expired()
        if why is Stop.TIMEOUT:
            text = f"attempt ran longer than {self._given_ms / 1_000:.3f} s"
            if self._starts_within_s is not None:
                text = f"its process was not ready after {self._starts_within_s:g} s"
            return self.failed(TimeoutError(text))
        return INTERRUPTED

    def _signal_outcome(
        self, signal: Retry | Throttled | Discard | DeadLetter
    ) -> Outcome:
        if isinstance(signal, Discard):
            return Discarded(signal.reason)
        self.error = _facts(signal.__cause__ or signal)
        if isinstance(signal, DeadLetter):
            return DeadLettered(signal.reason)
        try:
            after_ms = (
                None if signal.after is None else duration_ms("after", signal.after)
            )
        except ConfigError as error:
            return self.failed(error)
        if isinstance(signal, Retry):
            return RetryAsked(after_ms)
        return ThrottledOutcome(max(after_ms or 0, _LEAST_THROTTLE_MS))

    def _past_deadline(self) -> bool:
        return self.stop_for is Stop.DEADLINE and self.clock.epoch_ms() >= self.limit_ms


def _facts(error: BaseException) -> ErrorFacts:
    return error.facts if isinstance(error, RemoteError) else describe_error(error)
