"""Handlers in processes of their own: a crash or a hang takes nothing else along.

Each child imports the app by itself and is told a job's *name*: what crosses the pipe
is MessagePack of plain values, never a pickle, so nothing of a message is imported or
evaluated. A child runs one job at a time; past its limit it is killed, and the next job
gets a new one.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final, TypeAlias

import msgspec

from shifter.context import Context
from shifter.errors import DeadLetter, Discard, Retry, Throttled
from shifter.fleet.calls import ROLE, Role
from shifter.handler import completed
from shifter.model.duration import duration_ms
from shifter.model.priority import Priority
from shifter.model.time import EpochMs
from shifter.ports import Clock
from shifter.wire.failure import ErrorFacts, describe_error
from shifter.work.attempt import Attempt, ProcessDiedError, RemoteError
from shifter.work.child_calls import CallReport, ChildCalls, ChildLine
from shifter.work.item import Runnable
from shifter.work.session import kill_group

_POLL_S = 0.1
_SIGNALS: dict[str, type[Exception]] = {
    "Retry": Retry,
    "Throttled": Throttled,
    "Discard": Discard,
    "DeadLetter": DeadLetter,
}


class Call(msgspec.Struct):
    """What a child is told: a job's name, its payload and its context."""

    job: str
    content_type: str
    payload: bytes
    job_id: str
    attempt: int
    fence: int
    limit_ms: int
    key: str | None
    idempotency_key: str
    traceparent: str | None
    priority: Priority = Priority.NORMAL
    is_extra: bool = False
    holds: str | None = None


class Reply(msgspec.Struct, tag="reply"):
    """What a child answers: nothing, a signal with its argument, or a failure."""

    signal: str | None = None
    reason: str = ""
    after_ms: int | None = None
    failure: tuple[str, str, str, str] | None = None


_MESSAGES: Final[msgspec.msgpack.Decoder[Reply | CallReport]] = msgspec.msgpack.Decoder(
    Reply | CallReport
)

Spawn: TypeAlias = Callable[[], tuple[BaseProcess, Connection]]
"""Starts a child; returns it with this side of its pipe."""


class IsolatedProcesses:
    """A few children, each running one job at a time.

    Args:
        spawn: Starts a child.
        size: Children at once, >= 1.
    """

    def __init__(self, spawn: Spawn, *, size: int) -> None:
        self._spawn = spawn
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="shifter-isolated")
        self._idle: list[tuple[BaseProcess, Connection]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()

    async def run(self, job: Runnable, attempt: Attempt) -> None:
        """Run a job to its end; stopping the attempt kills its process.

        Raises:
            RemoteError: The handler failed.
            ProcessDiedError: Its process died.
            Retry, Throttled, Discard, DeadLetter: As the handler raised them.
        """
        stop = threading.Event()
        call = msgspec.msgpack.encode(_call(job, attempt))
        calls = ChildCalls(attempt.caller)
        future = self._threads.submit(self._converse, call, stop, calls)

        def end() -> None:
            if not future.cancel():
                stop.set()

        attempt.stoppable_by(end)
        answer = await asyncio.wrap_future(future)
        if isinstance(answer, Reply):
            _raise(answer)
        elif stop.is_set():
            raise asyncio.CancelledError
        else:
            raise answer

    def close(self) -> None:
        """End all children."""
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process, connection in self._idle:
            connection.close()
            kill_group(process)
            process.join()

    def _converse(
        self, call: bytes, stop: threading.Event, calls: ChildCalls
    ) -> Reply | ProcessDiedError:
        process, connection = self._child()
        answer = self._ask(connection, call, stop, calls)
        if answer is None:
            kill_group(process)
            process.join()
            connection.close()
            return ProcessDiedError(process.exitcode)
        with self._lock:
            self._idle.append((process, connection))
        return answer

    def _ask(
        self,
        connection: Connection,
        call: bytes,
        stop: threading.Event,
        calls: ChildCalls,
    ) -> Reply | None:
        """A child's answer; ``None`` when it died or is to be ended."""
        try:
            connection.send_bytes(call)
            while not (stop.is_set() or self._closed.is_set()):
                if not connection.poll(_POLL_S):
                    continue
                said = _MESSAGES.decode(connection.recv_bytes())
                if isinstance(said, Reply):
                    return said
                calls.take(said)
        except (EOFError, OSError):
            return None
        return None

    def _child(self) -> tuple[BaseProcess, Connection]:
        with self._lock:
            while self._idle:
                process, connection = self._idle.pop()
                if process.is_alive():
                    return process, connection
                connection.close()
        return self._spawn()


def serve_calls(
    connection: Connection, jobs: Mapping[str, Runnable], clock: Clock
) -> None:
    """The child's side: answer calls until the pipe closes.

    All calls run in one event loop, as in a worker: what a handler keeps from call to
    call, such as a client of some server, belongs to a loop.
    """
    line = ChildLine(connection)
    with asyncio.Runner() as runner:
        while True:
            try:
                call = msgspec.msgpack.decode(connection.recv_bytes(), type=Call)
            except EOFError:
                return
            ROLE.set(Role(call.priority, call.is_extra, call.holds, line))
            line.send(_answer(call, jobs, clock, runner))


def _answer(
    call: Call, jobs: Mapping[str, Runnable], clock: Clock, runner: asyncio.Runner
) -> Reply:
    try:
        job = jobs[call.job]
        arguments = job.codec.decode(call.payload, call.content_type)
        if job.context_parameter is not None:
            arguments[job.context_parameter] = _context(call, clock)
        value = job.function(**arguments)
        if value is not None:
            runner.run(completed(value), context=contextvars.copy_context())
    except (Retry, Throttled) as signal:
        after = signal.after
        after_ms = None if after is None else duration_ms("after", after)
        return Reply(signal=type(signal).__name__, after_ms=after_ms)
    except (Discard, DeadLetter) as signal:
        return Reply(signal=type(signal).__name__, reason=signal.reason)
    except BaseException as error:  # noqa: BLE001  # whatever leaves it ends it
        facts = describe_error(error)
        return Reply(
            failure=(facts.type, facts.message, facts.stack, facts.fingerprint)
        )
    return Reply()


def _context(call: Call, clock: Clock) -> Context:
    return Context(
        job_id=call.job_id,
        job_type=call.job,
        attempt=call.attempt,
        fence=call.fence,
        limit_ms=EpochMs(call.limit_ms),
        clock=clock,
        key=call.key,
        idempotency_key=call.idempotency_key,
        traceparent=call.traceparent,
    )


def _call(job: Runnable, attempt: Attempt) -> Call:
    context, read = attempt.context, attempt.item.read
    return Call(
        job=job.spec.name,
        content_type=read.content_type,
        payload=attempt.item.delivery.value or b"",
        job_id=context.job_id,
        attempt=context.attempt,
        fence=context.fence,
        limit_ms=context.limit_ms,
        key=context.key,
        idempotency_key=context.idempotency_key,
        traceparent=context.traceparent,
        priority=attempt.item.lane.priority,
        is_extra=attempt.item.is_extra,
        holds=None if attempt.caller is None else attempt.caller.holds,
    )


def _raise(reply: Reply) -> None:
    if reply.failure is not None:
        raise RemoteError(ErrorFacts(*reply.failure))
    if reply.signal in ("Discard", "DeadLetter"):
        raise _SIGNALS[reply.signal](reply.reason)
    if reply.signal is not None:
        after_s = None if reply.after_ms is None else reply.after_ms / 1_000
        raise _SIGNALS[reply.signal](after_s)
