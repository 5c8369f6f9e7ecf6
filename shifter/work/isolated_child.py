"""A child process that runs isolated handlers, and the messages of its pipe.

The pipe carries MessagePack of plain values, never a pickle, so no part of a message is
imported or evaluated. The worker sends a call, and a cancel while its handler runs; the
child reports that it is ready, each call that its handler makes to a dependency, and
how the handler ended.

A signal, a refusal, a cancel and a deadline mean the same wherever they are raised;
everything else is a failure, of which only its facts cross the pipe. A child is killed
when its handler is stopped, and its counts are lost with it. So it reports each call at
its begin and its end, and the worker cuts those that were active
(`shifter.fleet.calls.Caller.cut`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shifter.errors import (
    DeadLetter,
    DeadlineExceededError,
    Discard,
    JobCancelledError,
    RejectedError,
    Retry,
    Throttled,
)
from shifter.fleet.calls import ROLE, ActiveCall, CallerFacts, CallVerdict, verdict_of
from shifter.jobs import request_scope
from shifter.jobs.context import Context, identify
from shifter.jobs.registered import RegisteredJob
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.model.time import EpochMs, duration_ms
from shifter.policy.delivery.error_rules import RETRIED, Ruling, ruling_of
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.ports import Clock
from shifter.runtime.handler import completed
from shifter.telemetry.log import log_as_job
from shifter.telemetry.trace_context import follow, read_trace
from shifter.wire.failure import ErrorFacts, describe_error
from shifter.wire.untrusted import printable
from shifter.work.attempt import RemoteError

_MAX_REASON: Final = 1_000


class ContextFacts(msgspec.Struct):
    """The values that a `Context` is made of, without its clock."""

    job_id: str
    job_type: str
    attempt: int
    fence: int
    limit_ms: EpochMs
    key: str | None
    idempotency_key: str
    traceparent: str | None
    quality: Quality


class IsolatedCall(msgspec.Struct, tag="call"):
    """A message to a child: the name of a job, its payload, and its context.

    Attributes:
        trace: Headers with the span under which the child's own hang.
    """

    job: str
    content_type: str
    payload: bytes
    context: ContextFacts
    deadline_ms: int | None
    priority: Priority
    is_extra: bool
    holds: str | None
    is_cancelled: bool
    trace: list[tuple[str, bytes | None]]


class IsolatedCancel(msgspec.Struct, tag="cancel"):
    """A message to a child during a call: its job was cancelled."""


class IsolatedReady(msgspec.Struct, tag="ready"):
    """The first message of a child: it has imported the app and takes calls."""


class CallReport(msgspec.Struct, tag="call", omit_defaults=True):
    """A call began or ended.

    Attributes:
        number: Of the call, >= 1, within the process.
        dependency: Its name.
        generation: Of the permit of the fleet's circuit.
        probe: Of the same permit.
        outcome: How it ended; ``None`` for one that began.
    """

    number: int
    dependency: str
    generation: int
    probe: int = 0
    outcome: CallOutcome | None = None


class IsolatedReply(msgspec.Struct, tag="reply"):
    """What a child answers.

    Attributes:
        signal: Name of the signal that was raised; empty for other exceptions.
        reason: Of a discard or a dead letter; the dependency of a refusal.
        after_ms: The wait of a retry, a throttle or a refusal; how late a deadline.
        failure: Facts of what was raised, or of its cause; ``None`` for a success.
        verdict: What the end implies about the job's dependency; judged in the child,
            which has the error itself.
        ruling: What follows a failure by the job's rules; judged there too.
    """

    signal: str | None = None
    reason: str = ""
    after_ms: int | None = None
    failure: ErrorFacts | None = None
    verdict: CallVerdict | None = None
    ruling: Ruling = RETRIED


Reply: TypeAlias = IsolatedReady | IsolatedReply | CallReport
REPLIES: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)
"""Decodes what a child sends."""
_ORDERS: Final[msgspec.msgpack.Decoder[IsolatedCall | IsolatedCancel]] = (
    msgspec.msgpack.Decoder(IsolatedCall | IsolatedCancel)
)


class _Signal(NamedTuple):
    """An exception that is raised again in the worker.

    Attributes:
        kind: Its type.
        reason: Name of the attribute with its reason; empty without one.
        wait: Name of the attribute with its wait; empty without one.
        make: The error, from reason, wait in seconds and the job's id.
    """

    kind: type[Exception]
    reason: str
    wait: str
    make: Callable[[str, float | None, str], Exception]


_SIGNALS: Final = {
    "retry": _Signal(Retry, "", "after", lambda _r, s, _i: Retry(s)),
    "throttled": _Signal(Throttled, "", "after", lambda _r, s, _i: Throttled(s)),
    "discard": _Signal(Discard, "reason", "", lambda r, _s, _i: Discard(r)),
    "dead_letter": _Signal(DeadLetter, "reason", "", lambda r, _s, _i: DeadLetter(r)),
    "cancelled": _Signal(
        JobCancelledError, "", "", lambda _r, _s, i: JobCancelledError(i)
    ),
    "late": _Signal(
        DeadlineExceededError,
        "",
        "late_by_s",
        lambda _r, s, i: DeadlineExceededError(i, s or 0.0),
    ),
    "rejected": _Signal(
        RejectedError,
        "dependency",
        "retry_in_s",
        lambda r, s, _i: RejectedError(r, s or 0.0),
    ),
}


def reply_to(error: BaseException) -> IsolatedReply:
    """The reply for what left a handler; never raises."""
    for name, signal in _SIGNALS.items():
        if isinstance(error, signal.kind):
            try:
                reason = getattr(error, signal.reason) if signal.reason else ""
                after = getattr(error, signal.wait) if signal.wait else None
                after_ms = None if after is None else duration_ms("after", after)
            except Exception as wrong:  # noqa: BLE001  # what the signal was made with
                return IsolatedReply(failure=describe_error(wrong))
            failure = describe_error(error.__cause__ or error)
            return IsolatedReply(
                name, printable(str(reason), _MAX_REASON), after_ms, failure
            )
    return IsolatedReply(failure=describe_error(error))


def raise_reply(reply: IsolatedReply, job_id: str) -> None:
    """Raise in the worker what the handler raised in the child, if it raised.

    Args:
        reply: The child's.
        job_id: Of the job that ran.

    Raises:
        RemoteError: A failure.
        Exception: A signal, as the handler raised it.
    """
    if reply.failure is None:
        return
    cause = RemoteError(reply.failure, reply.ruling)
    if reply.signal is None:
        raise cause
    after_s = None if reply.after_ms is None else reply.after_ms / 1_000
    raise _SIGNALS[reply.signal].make(reply.reason, after_s, job_id) from cause


class ChildChannel:
    """The child's end of the pipe, shared by its threads.

    Args:
        connection: To the worker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._numbers: dict[ActiveCall, int] = {}
        self._last = 0

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, in one piece."""
        with self._lock:
            self._connection.send_bytes(msgspec.msgpack.encode(message))

    def began(self, begun: ActiveCall) -> None:
        """Report a call that begins."""
        with self._lock:
            self._last += 1
            self._numbers[begun] = number = self._last
        self.send(_report(number, begun, None))

    def ended(self, begun: ActiveCall, verdict: CallVerdict) -> None:
        """Report a call that ended."""
        number = self._numbers.pop(begun)
        self.send(_report(number, begun, verdict.outcome))


def _report(number: int, begun: ActiveCall, outcome: CallOutcome | None) -> CallReport:
    shared = begun.permit.shared
    name = begun.protection.dependency.name
    return CallReport(number, name, shared.generation, shared.probe, outcome)


def serve_calls(
    connection: Connection, jobs: Mapping[str, RegisteredJob], clock: Clock
) -> None:
    """Answer the parent's calls in a child process until the pipe closes.

    All calls run in one event loop, as in a worker: what a handler keeps from call to
    call, such as a client of some server, belongs to a loop.

    Args:
        connection: The child's end of the pipe.
        jobs: The jobs of the app, by name and alias.
        clock: The child's clock.
    """
    channel = ChildChannel(connection)
    channel.send(IsolatedReady())
    calls: queue.SimpleQueue[_Called | None] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_read, args=(connection, clock, calls), name="shifter-call", daemon=True
    )
    reader.start()
    with asyncio.Runner() as runner:
        while (called := calls.get()) is not None:
            call, (trace, beside) = called.call, read_trace(called.call.trace)
            ROLE.set(CallerFacts(call.priority, call.is_extra, call.holds, channel))
            request_scope.begin(
                request_scope.Ambient(
                    call.deadline_ms,
                    is_retry=call.is_extra,
                    traceparent=trace,
                    beside=beside,
                )
            )
            follow(trace, beside)
            seen = called.context
            log_as_job(
                functools.partial(identify, seen.job_id, seen.job_type, seen.attempt)
            )
            channel.send(_answer(called, jobs, runner))


class _Called(NamedTuple):
    """A call and what its handler sees."""

    call: IsolatedCall
    context: Context


def _read(
    connection: Connection, clock: Clock, calls: queue.SimpleQueue[_Called | None]
) -> None:
    """Receive messages of the worker, also while a handler runs."""
    context: Context | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            order = _ORDERS.decode(connection.recv_bytes())
            if isinstance(order, IsolatedCall):
                context = Context(**msgspec.structs.asdict(order.context), clock=clock)
                context.cancelled = order.is_cancelled
                calls.put(_Called(order, context))
            elif context is not None:
                context.cancelled = True
    calls.put(None)


def _answer(
    called: _Called, jobs: Mapping[str, RegisteredJob], runner: asyncio.Runner
) -> IsolatedReply:
    call, job = called.call, jobs.get(called.call.job)
    try:
        job = jobs[call.job]
        arguments = job.codec.decode(call.payload, call.content_type)
        if job.context_parameter is not None:
            called.context.dependency = job.dependency
            arguments[job.context_parameter] = called.context
        value = job.function(**arguments)
        if value is not None:
            runner.run(completed(value), context=contextvars.copy_context())
    except BaseException as error:  # noqa: BLE001  # whatever leaves it ends it
        reply = reply_to(error)
        reply.verdict = verdict_of(error, None if job is None else job.dependency)
        if job is not None:
            reply.ruling = ruling_of(error, job.spec.error_rules)
        return reply
    return IsolatedReply()
