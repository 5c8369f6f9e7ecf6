"""Handlers with a witness: every run is written down, planned failures happen."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, Final

from shifter.api.job import Job
from shifter.jobs.context import Context
from shifter.jobs.registered import Call
from shifter.model.job import Isolation, JobSpec
from shifter.policy.protection.dependency import Dependency
from shifter.runtime.handler import check_value, completed, is_coroutine_function
from shifter.testing.handler_time import HANDLER, Handler, HandlerClock
from shifter.wire.payload import PayloadCodec

_CONTEXT: Final = "shifter-context"
"""No parameter of a handler can have this name."""


class Failures:
    """What is planned to go wrong, by job name."""

    def __init__(self) -> None:
        self._planned: dict[str, list[tuple[BaseException, int | None]]] = {}

    def plan(self, name: str, error: BaseException, times: int | None) -> None:
        """Let the next runs of a job fail, after those planned before."""
        self._planned.setdefault(name, []).append((error, times))

    def strike(self, name: str) -> None:
        """Raise what is planned for this run, if anything is."""
        planned = self._planned.get(name)
        if not planned:
            return
        error, times = planned[0]
        if times is not None and times > 1:
            planned[0] = (error, times - 1)
        elif times is not None:
            planned.pop(0)
        raise error.with_traceback(None)


class RehearsedJob:
    """A registered job as the worker of a test runs it.

    An ``isolate="process"`` job runs in this process: in the loop if it is ``async``,
    else in a thread.

    Attributes:
        spec: As declared, but for that.
        codec: The job's own.
        dependency: The job's own.
        cheaper: The job's own.
        context_parameter: A run always gets its context, to be written down.
        handlers: Handlers that run in the loop, by their task.
    """

    def __init__(
        self,
        job: Job[..., Any],
        clock: HandlerClock,
        failures: Failures,
        handlers: dict[asyncio.Task[Any], Handler],
    ) -> None:
        self._job, self._clock, self._failures = job, clock, failures
        self.handlers = handlers
        self.spec: JobSpec = dataclasses.replace(job.spec, isolation=_place(job))
        self.codec: PayloadCodec = job.codec
        self.dependency: Dependency | None = job.dependency
        self.cheaper: Callable[..., Any] | None = job.cheaper
        self.context_parameter: str | None = _CONTEXT

    @property
    def function(self) -> Callable[..., Any]:
        """The handler, with its witness."""
        is_async = self.spec.isolation is Isolation.LOOP
        return self._run if is_async else self._run_in_thread

    async def _run(self, **arguments: Any) -> None:
        call = self._begun(arguments)
        with _noted(call), self._in_loop():
            self._failures.strike(self.spec.name)
            await completed(self._job.function(**arguments))

    def _run_in_thread(self, **arguments: Any) -> Any:
        call = self._begun(arguments)
        with _noted(call):
            self._failures.strike(self.spec.name)
            value = self._job.function(**arguments)
            if inspect.isawaitable(value):
                return self._ending(call, value)
            check_value(value)
            return None

    async def _ending(self, call: Call, value: Any) -> None:
        with _noted(call), self._in_loop():
            await completed(value)

    @contextlib.contextmanager
    def _in_loop(self) -> Generator[None]:
        """Let the task that runs the block be known as a handler's."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a handler runs in a task")
        self.handlers[task] = handler = Handler(self._clock)
        token = HANDLER.set(handler)
        try:
            yield
        finally:
            HANDLER.reset(token)
            del self.handlers[task]

    def _begun(self, arguments: dict[str, Any]) -> Call:
        context: Context = arguments.pop(_CONTEXT)
        at = datetime.fromtimestamp(self._clock.epoch_ms() / 1_000, UTC)
        call = Call({**arguments}, context.job_id, context.attempt, at)
        if self._job.context_parameter is not None:
            arguments[self._job.context_parameter] = context
        self._job.calls.append(call)
        return call


@contextlib.contextmanager
def _noted(call: Call) -> Generator[None]:
    """Write down what ended the block, unless it ended well."""
    try:
        yield
    except BaseException as error:
        call.error = error
        raise


def _place(job: Job[..., Any]) -> Isolation:
    if job.spec.isolation is not Isolation.PROCESS:
        return job.spec.isolation
    is_async = is_coroutine_function(job.function)
    return Isolation.LOOP if is_async else Isolation.THREAD
