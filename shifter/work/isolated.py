"""Handlers in child processes: a crash or a hang affects no other job.

Each child imports the app by itself and receives the *name* of a job. The pipe carries
MessagePack of plain values, never a pickle, so no part of a message is imported or
evaluated. A child runs one job at a time. A child whose job exceeds its limit is
killed, and the next job gets a new one. The time of an attempt begins when its child is
ready, so that a slow import of the app does not use up the timeout of the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from shifter.fleet.calls import ROLE, CallerFacts, verdict_of
from shifter.jobs import request_scope
from shifter.jobs.context import Context
from shifter.jobs.registered import RegisteredJob
from shifter.jobs.request_scope import follow
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.model.time import EpochMs
from shifter.ports import Clock
from shifter.runtime.handler import completed
from shifter.runtime.process_group import kill_group
from shifter.work.attempt import Attempt, ProcessDiedError
from shifter.work.isolated_calls import CallReport, ChildCalls, ChildChannel
from shifter.work.isolated_reply import IsolatedReply, raise_reply, reply_to

_POLL_S: Final = 0.1
START_S: Final = 60.0
"""A child that has not imported the app after so many seconds is ended."""


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
    """A message to a child: the name of a job, its payload, and its context."""

    job: str
    content_type: str
    payload: bytes
    context: ContextFacts
    deadline_ms: int | None
    priority: Priority
    is_extra: bool
    holds: str | None
    is_cancelled: bool


class IsolatedCancel(msgspec.Struct, tag="cancel"):
    """A message to a child during a call: its job was cancelled."""


class IsolatedReady(msgspec.Struct, tag="ready"):
    """The first message of a child: it has imported the app and takes calls."""


_MESSAGES: Final[
    msgspec.msgpack.Decoder[IsolatedReady | IsolatedReply | CallReport]
] = msgspec.msgpack.Decoder(IsolatedReady | IsolatedReply | CallReport)
_ORDERS: Final[msgspec.msgpack.Decoder[IsolatedCall | IsolatedCancel]] = (
    msgspec.msgpack.Decoder(IsolatedCall | IsolatedCancel)
)
_CANCEL: Final = msgspec.msgpack.encode(IsolatedCancel())
_READY: Final = msgspec.msgpack.encode(IsolatedReady())

_Child: TypeAlias = tuple[BaseProcess, Connection]
Spawn: TypeAlias = Callable[[], _Child]
"""Starts a child; returns its process and this end of its pipe."""


class IsolatedProcesses:
    """A few children, each running one job at a time.

    Args:
        spawn: Starts a child.
        size: Children at once, >= 1.
    """

    def __init__(self, spawn: Spawn, *, size: int) -> None:
        self._spawn = spawn
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="shifter-isolated")
        # A child stays with its attempt from its start to the end of its call: without
        # this, attempts that arrive together would each start a child first.
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()

    async def run(
        self, job: RegisteredJob, attempt: Attempt, *, begins: Callable[[], None]
    ) -> None:
        """Run a job to its end; stopping the attempt kills its process.

        Args:
            job: What to run.
            attempt: The run of it.
            begins: Called in the loop once a child is ready, before the call is sent.

        Raises:
            RemoteError: The handler failed.
            ProcessDiedError: Its process died.
            Retry, Throttled, Discard, DeadLetter: As the handler raised them.
        """
        # The time of an attempt does not run while others use the children.
        attempt.wait_to_begin(math.inf)
        async with self._free:
            await self._run(job, attempt, begins)

    async def _run(
        self, job: RegisteredJob, attempt: Attempt, begins: Callable[[], None]
    ) -> None:
        stop = threading.Event()
        starting = self._threads.submit(self._child, stop)
        future: Future[Any] = starting

        def end() -> None:
            if not future.cancel():
                stop.set()

        attempt.stoppable_by(end)
        attempt.wait_to_begin(START_S)
        child = await asyncio.wrap_future(starting)
        if isinstance(child, ProcessDiedError):
            raise asyncio.CancelledError if stop.is_set() else child
        if attempt.stopped is None:
            begins()
        call = _call(job, attempt)
        future = talking = self._threads.submit(
            self._converse, child, call, attempt, stop
        )
        answer = await asyncio.wrap_future(talking)
        if isinstance(answer, IsolatedReply):
            if answer.said is not None:
                attempt.said = answer.said
            raise_reply(answer, attempt.item.envelope.id)
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
        self, child: _Child, call: IsolatedCall, attempt: Attempt, stop: threading.Event
    ) -> IsolatedReply | ProcessDiedError:
        answer = self._ask(child[1], call, attempt, stop)
        if answer is None:
            return _ended(child)
        with self._lock:
            self._idle.append(child)
        return answer

    def _ask(
        self,
        connection: Connection,
        call: IsolatedCall,
        attempt: Attempt,
        stop: threading.Event,
    ) -> IsolatedReply | None:
        """Send a call to a child; its reply, or ``None`` if the child must end."""
        calls, knows_of_cancel = ChildCalls(attempt.caller), call.is_cancelled
        if stop.is_set():
            return None
        try:
            connection.send_bytes(msgspec.msgpack.encode(call))
            while not (stop.is_set() or self._closed.is_set()):
                if attempt.cancelled and not knows_of_cancel:
                    connection.send_bytes(_CANCEL)
                    knows_of_cancel = True
                if not connection.poll(_POLL_S):
                    continue
                said = _MESSAGES.decode(connection.recv_bytes())
                if isinstance(said, IsolatedReply):
                    return said
                if isinstance(said, CallReport):
                    calls.take(said)
        except (EOFError, OSError):
            return None
        return None

    def _child(self, stop: threading.Event) -> _Child | ProcessDiedError:
        """An idle child, or a new one once it is ready."""
        with self._lock:
            while self._idle:
                process, connection = self._idle.pop()
                if process.is_alive():
                    return process, connection
                connection.close()
        child = self._spawn()
        with contextlib.suppress(EOFError, OSError):
            while not (stop.is_set() or self._closed.is_set()):
                if child[1].poll(_POLL_S):
                    _MESSAGES.decode(child[1].recv_bytes())
                    return child
        return _ended(child)


def _ended(child: _Child) -> ProcessDiedError:
    """Kill a child with its process group; returns the error with its exit code."""
    process, connection = child
    kill_group(process)
    process.join()
    connection.close()
    return ProcessDiedError(process.exitcode)


def serve_calls(
    connection: Connection, jobs: Mapping[str, RegisteredJob], clock: Clock
) -> None:
    """The child's side: answer calls until the pipe closes.

    All calls run in one event loop, as in a worker: what a handler keeps from call to
    call, such as a client of some server, belongs to a loop.
    """
    line = ChildChannel(connection)
    connection.send_bytes(_READY)
    calls: queue.SimpleQueue[_Called | None] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_read, args=(connection, clock, calls), name="shifter-call", daemon=True
    )
    reader.start()
    with asyncio.Runner() as runner:
        while (called := calls.get()) is not None:
            call, trace = called.call, called.context.traceparent
            ROLE.set(CallerFacts(call.priority, call.is_extra, call.holds, line))
            request_scope.begin(
                call.deadline_ms, is_retry=call.is_extra, traceparent=trace
            )
            follow(trace)
            line.send(_answer(called, jobs, runner))


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
            arguments[job.context_parameter] = called.context
        value = job.function(**arguments)
        if value is not None:
            runner.run(completed(value), context=contextvars.copy_context())
    except BaseException as error:  # noqa: BLE001  # whatever leaves it ends it
        reply = reply_to(error)
        reply.said = verdict_of(error, None if job is None else job.dependency)
        return reply
    return IsolatedReply()


def _call(job: RegisteredJob, attempt: Attempt) -> IsolatedCall:
    context, item = attempt.context, attempt.item
    fields = ContextFacts.__struct_fields__
    return IsolatedCall(
        job=job.spec.name,
        content_type=item.read.content_type,
        payload=item.delivery.value or b"",
        context=ContextFacts(**{name: getattr(context, name) for name in fields}),
        deadline_ms=item.envelope.deadline_ms,
        priority=item.lane.priority,
        is_extra=item.is_extra,
        holds=None if attempt.caller is None else attempt.caller.holds,
        is_cancelled=attempt.cancelled,
    )
