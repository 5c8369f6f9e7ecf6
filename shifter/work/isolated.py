"""Handlers in child processes: a crash or a hang affects no other job.

Each child imports the app by itself and receives the *name* of a job
(`shifter.work.isolated_child`). A child runs one job at a time. A child whose job
exceeds its limit is killed, and the next job gets a new one. The time of an attempt
begins when its child is ready, so that a slow import of the app does not use up the
timeout of the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeAlias

import msgspec

from shifter.fleet.calls import (
    ActiveCall,
    Caller,
    CallVerdict,
)
from shifter.jobs import request_scope
from shifter.jobs.registered import RegisteredJob
from shifter.policy.protection.circuit.states import Permit
from shifter.runtime.process_group import kill_group
from shifter.work.attempt import Attempt, ProcessDiedError
from shifter.work.isolated_child import (
    REPLIES,
    CallReport,
    ContextFacts,
    IsolatedCall,
    IsolatedCancel,
    IsolatedReply,
    raise_reply,
)

_POLL_S: Final = 0.1
START_S: Final = 60.0
"""A child that has not imported the app after so many seconds is ended."""
_LEAVE_S: Final = 2.0
"""How long to wait for the end of the next idle child, before all left are killed."""
_CANCEL: Final = msgspec.msgpack.encode(IsolatedCancel())

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
        # The time of an attempt does not run while other attempts use the children.
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
            if answer.verdict is not None:
                attempt.verdict = answer.verdict
            raise_reply(answer, attempt.item.envelope.id)
        elif stop.is_set():
            raise asyncio.CancelledError
        else:
            raise answer

    def close(self) -> None:
        """End all children."""
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _, connection in self._idle:
            connection.close()
        # A child ends by itself then, and sends the spans that it has recorded.
        ending = {process.sentinel for process, _ in self._idle}
        while ending and (ended := wait(ending, _LEAVE_S)):
            ending.difference_update(ended)
        for process, _ in self._idle:
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
        calls, is_cancel_sent = ChildCalls(attempt.caller), call.is_cancelled
        if stop.is_set():
            return None
        try:
            connection.send_bytes(msgspec.msgpack.encode(call))
            while not (stop.is_set() or self._closed.is_set()):
                if attempt.cancelled and not is_cancel_sent:
                    connection.send_bytes(_CANCEL)
                    is_cancel_sent = True
                # Polled, since neither a stop nor a cancel ends a blocking read.
                if not connection.poll(_POLL_S):
                    continue
                reply = REPLIES.decode(connection.recv_bytes())
                if isinstance(reply, IsolatedReply):
                    return reply
                if isinstance(reply, CallReport):
                    calls.take(reply)
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
                    REPLIES.decode(child[1].recv_bytes())
                    return child
        return _ended(child)


def _ended(child: _Child) -> ProcessDiedError:
    """Kill a child with its process group; returns the error with its exit code."""
    process, connection = child
    kill_group(process)
    process.join()
    connection.close()
    return ProcessDiedError(process.exitcode)


class ChildCalls:
    """The worker's side: the calls of one attempt under way in a child.

    Args:
        caller: The attempt's.
    """

    def __init__(self, caller: Caller | None) -> None:
        self._caller, self._begun = caller, dict[int, ActiveCall]()

    def take(self, report: CallReport) -> None:
        """Note what the child reports."""
        caller = self._caller
        if caller is None:
            return
        if report.outcome is not None:
            if (begun := self._begun.pop(report.number, None)) is not None:
                caller.end(begun, CallVerdict(report.outcome))
            return
        permit = Permit(report.generation, report.probe)
        adopted = caller.adopt(report.dependency, permit)
        if adopted is not None:
            self._begun[report.number] = adopted


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
        trace=request_scope.trace_headers(),
    )
