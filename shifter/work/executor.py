"""Runs handlers: in the loop, in a thread, in a process of their own.

Timeouts are kept by one sweep over the running attempts instead of a timer each: at
35,000 jobs/s a timer per job costs more than the sweep, and 20 ms of lateness does not
matter to a limit of seconds.

Decoding takes time in proportion to the bytes, and while a turn of the event loop
decodes for a second no other job and no health check proceeds. So each turn has a
budget; a payload beyond it is decoded in a thread, one at a time.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, Protocol

from shifter.errors import DecodeError
from shifter.jobs import request_scope
from shifter.jobs.registered import RegisteredJob
from shifter.model.job import Isolation
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.job_limits import is_suspect
from shifter.policy.delivery.retry import Outcome
from shifter.ports import Clock
from shifter.runtime.handler import completed, is_coroutine_function
from shifter.runtime.threads import ThreadCall
from shifter.telemetry.log import log_as_job
from shifter.telemetry.trace_context import headers_beside
from shifter.wire.headers import JSON
from shifter.work.attempt import SUCCEEDED, Attempt, ProcessDiedError, Stop
from shifter.work.item import Item, ItemRefusal
from shifter.work.job_spans import JobSpans

SWEEP_S = 0.02
_LOOP: Final = Isolation.LOOP
"""Looked up once: Python 3.11 takes 70 ns for a member of an enumeration."""
TURN_BYTES: Final = 1_048_576
"""Of JSON, in a turn: 10 to 40 ms, by what is in it."""

_OTHER: Final = 16
"""As many bytes of JSON take as long as one of msgpack, whose depth is measured in
Python."""


class ProcessRunner(Protocol):
    """Runs a job in a process of its own."""

    async def run(
        self, job: RegisteredJob, attempt: Attempt, *, begins: Callable[[], None]
    ) -> None:
        """Run a job to its end and raise what it raised; a stop kills the process.

        Args:
            job: The job.
            attempt: The attempt that is run.
            begins: Called when the handler begins.
        """

    def close(self) -> None:
        """End all processes."""


class Executor:
    """Runs attempts and reports each end once.

    Args:
        clock: For limits.
        concurrency: Slots; also the number of threads.
        ended: Called with each attempt and its outcome, in the loop.
        begins: Called with each attempt in its task, before its handler is called.
        stuck: Called with each attempt that was stopped and does not end.
        spans: Traces the attempts.
        processes: For jobs with ``isolate="process"``, and for what took workers
            with it before.
    """

    def __init__(  # noqa: PLR0913  # one keyword a part
        self,
        clock: Clock,
        *,
        concurrency: int,
        ended: Callable[[Attempt, Outcome], None],
        processes: ProcessRunner | None,
        begins: Callable[[Attempt], None],
        stuck: Callable[[Attempt], None],
        spans: JobSpans,
    ) -> None:
        self._clock, self._ended, self._processes = clock, ended, processes
        self._begins, self._stuck, self._spans = begins, stuck, spans
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="shifter")
        self._decoding = Decoding()
        self.running: set[Attempt] = set()
        self.free = concurrency
        self._has_started = asyncio.Event()
        self._fault: asyncio.Future[Exception] = asyncio.Future()

    def start(
        self, items: Sequence[tuple[Item, RegisteredJob]], *, now_ms: EpochMs
    ) -> None:
        """Start attempts in slots that were taken with `take`.

        Args:
            items: What to run.
            now_ms: Wall clock.
        """
        loop, now = asyncio.get_running_loop(), self._clock.monotonic()
        self._spans.look()
        for item, job in items:
            envelope = item.envelope
            # A record may shorten what the job declares, never lengthen it.
            timeout_ms = job.spec.timeout_ms
            if envelope.timeout_ms is not None:
                timeout_ms = min(timeout_ms, envelope.timeout_ms)
            attempt = Attempt(item, self._clock, timeout_ms=timeout_ms)
            attempt.begin(now, now_ms)
            self.running.add(attempt)
            # Owned by `running`: a task group's bookkeeping costs a third of a no-op.
            run = self._run(attempt, job)
            # A name that asyncio would make up costs a tenth of the task.
            attempt.task = loop.create_task(run, name=envelope.type)
        self._has_started.set()

    async def failed(self) -> NoReturn:
        """Wait for a fault of this class itself, and raise it."""
        raise await self._fault

    def take(self, slots: int) -> None:
        """Reserve free slots for attempts about to start."""
        self.free -= slots

    def give_back(self, slots: int) -> None:
        """Free slots that were reserved and not used."""
        self.free += slots

    @property
    def is_ending(self) -> bool:
        """Whether an attempt runs that is not stuck."""
        return not all(attempt.is_stuck for attempt in self.running)

    def stop_all(self, why: Stop) -> None:
        """Cancel everything that runs."""
        for attempt in list(self.running):
            attempt.stop(why)

    async def sweep(self) -> None:
        """Stop attempts whose time is up, until cancelled."""
        while True:
            if not self.running:
                self._has_started.clear()
                await self._has_started.wait()
            await self._clock.sleep(SWEEP_S)
            now = self._clock.monotonic()
            for attempt in [a for a in self.running if a.expires_at <= now]:
                self._stop(attempt)

    def _stop(self, attempt: Attempt) -> None:
        if attempt.stopped is None:
            attempt.stop(attempt.stop_for)
            return
        was_stuck = attempt.is_stuck
        attempt.stop_again()
        if attempt.is_stuck and not was_stuck:
            self._stuck(attempt)

    def close(self) -> None:
        """Free threads and processes; threads that still run are abandoned."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoding.close()
        if self._processes is not None:
            self._processes.close()

    async def _run(self, attempt: Attempt, job: RegisteredJob) -> None:
        attempt.has_begun = True
        # A task of its own: what is set here ends with it.
        item = attempt.item
        trace, beside = item.read.traceparent, item.read.extra
        if beside:
            beside = headers_beside(beside)
        deadline_ms, is_retry = item.envelope.deadline_ms, item.is_extra
        brought = request_scope.NOTHING
        if is_retry or beside or deadline_ms is not None or trace is not None:
            brought = request_scope.Ambient(
                deadline_ms, is_retry=is_retry, traceparent=trace, beside=beside
            )
        request_scope.begin(brought)
        if self._spans.is_on or beside or trace is not None:
            self._spans.enter(attempt, is_apart=self._is_apart(item, job))
        # Of the item: a context that holds the attempt, which holds the task, which
        # holds the context, would be left to the garbage collector.
        log_as_job(item.log_fields)
        self._begins(attempt)
        outcome: Outcome = SUCCEEDED
        try:
            await self._call(attempt, job, await self._arguments(attempt, job))
        except BaseException as error:  # noqa: BLE001  # whatever leaves it ends it
            outcome = attempt.outcome_of(error)
        try:
            self.free += 1
            self.running.discard(attempt)
            self._ended(attempt, outcome)
        except Exception as fault:  # noqa: BLE001  # ours: it must take the worker down
            if not self._fault.done():
                self._fault.set_result(fault)

    async def _call(
        self, attempt: Attempt, job: RegisteredJob, arguments: dict[str, Any]
    ) -> None:
        if attempt.item.is_degraded and job.cheaper is not None:
            await self._run_cheaper(attempt, job.cheaper, arguments)
        elif self._processes is not None and is_suspect(attempt.item.losses):
            await self._run_apart(attempt, job, self._processes)
        elif job.spec.isolation is _LOOP:
            value = await job.function(**arguments)
            if value is not None:
                await completed(value)
        elif job.spec.isolation is Isolation.THREAD:
            await self._run_in_thread(attempt, job.function, arguments)
        elif self._processes is not None:
            await self._run_in_process(attempt, job, self._processes)

    def _is_apart(self, item: Item, job: RegisteredJob) -> bool:
        """Whether an item runs in a process, which has to start first."""
        if self._processes is None or (item.is_degraded and job.cheaper is not None):
            return False
        return job.spec.isolation is Isolation.PROCESS or is_suspect(item.losses)

    async def _run_in_process(
        self, attempt: Attempt, job: RegisteredJob, processes: ProcessRunner
    ) -> None:
        """Run a job in a process; its time begins once the process is ready."""

        def begins() -> None:
            attempt.begin(self._clock.monotonic(), self._clock.epoch_ms())
            if attempt.awaits_span:
                self._spans.begin(attempt)
            self._begins(attempt)

        await processes.run(job, attempt, begins=begins)

    async def _run_in_thread(
        self, attempt: Attempt, function: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        call = ThreadCall(self._threads, function, arguments)
        attempt.stoppable_by(call.stop)
        value = await call.returned()
        if value is not None:
            attempt.stoppable_by(None)
            await completed(value)

    async def _run_cheaper(
        self, attempt: Attempt, function: Callable[..., Any], arguments: dict[str, Any]
    ) -> None:
        """Run a fallback: a coroutine in the loop, anything else in a thread."""
        if is_coroutine_function(function):
            await completed(function(**arguments))
        else:
            await self._run_in_thread(attempt, function, arguments)

    async def _run_apart(
        self, attempt: Attempt, job: RegisteredJob, processes: ProcessRunner
    ) -> None:
        """Run a job that killed workers before in a process of its own."""
        try:
            await self._run_in_process(attempt, job, processes)
        except ProcessDiedError as error:
            detail = f"took {attempt.item.losses} workers with it, then {error}"
            attempt.item.refusal = ItemRefusal(Reason.WORKER_LOST, detail)
            raise

    async def _arguments(self, attempt: Attempt, job: RegisteredJob) -> dict[str, Any]:
        if attempt.stopped is not None:
            raise asyncio.CancelledError
        value, kind = attempt.item.delivery.value, attempt.item.read.content_type
        try:
            if self._decoding.fits(value, kind):
                arguments = job.codec.decode(value, kind)
            else:
                arguments = await self._decoding.run(job.codec.decode, value, kind)
        except DecodeError as error:
            reason = Reason(error.reason)
            attempt.item.refusal = ItemRefusal(reason, error.detail, error.is_misfit)
            raise
        name = job.context_parameter
        if name is not None and self._wants(attempt, job, name):
            arguments[name] = attempt.context
        return arguments

    def _wants(self, attempt: Attempt, job: RegisteredJob, name: str) -> bool:
        """Whether the function that is run takes a context; a fallback need not."""
        if not attempt.item.is_degraded or job.cheaper is None:
            return True
        return name in inspect.signature(job.cheaper).parameters


class Decoding:
    """The budget of one event loop, and the thread for what goes beyond it."""

    def __init__(self) -> None:
        self._left = TURN_BYTES
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shifter-decode")

    def fits(self, value: bytes | None, content_type: str) -> bool:
        """Whether a payload may be decoded in this turn; if so, the budget is charged.

        Args:
            value: The payload.
            content_type: How it is written.
        """
        cost = 0 if value is None else len(value)
        if content_type != JSON:
            cost *= _OTHER
        if cost > self._left:
            return False
        if self._left == TURN_BYTES and cost:
            asyncio.get_running_loop().call_soon(self._refill)
        self._left -= cost
        return True

    async def run(
        self, decode: Callable[..., dict[str, Any]], value: bytes | None, kind: str
    ) -> dict[str, Any]:
        """Decode in the thread; raises what ``decode`` raises.

        Args:
            decode: Makes arguments of a payload and its content type.
            value: The payload.
            kind: How it is written.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, decode, value, kind)

    def close(self) -> None:
        """Free the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _refill(self) -> None:
        self._left = TURN_BYTES
