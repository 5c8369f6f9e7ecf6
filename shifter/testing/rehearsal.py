"""Handlers with a witness: every run is written down, planned failures happen."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from shifter.call import Call
from shifter.context import Context
from shifter.job import Job
from shifter.model.job import Isolation, JobSpec
from shifter.policy.dependency import Dependency
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
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a handler runs in a task")
        self.handlers[task] = handler = Handler(self._clock)
        token = HANDLER.set(handler)
        try:
            self._failures.strike(self.spec.name)
            await self._job.function(**arguments)
        except BaseException as error:
            call.error = error
            raise
        finally:
            HANDLER.reset(token)
            del self.handlers[task]

    def _run_in_thread(self, **arguments: Any) -> None:
        call = self._begun(arguments)
        try:
            self._failures.strike(self.spec.name)
            self._job.function(**arguments)
        except BaseException as error:
            call.error = error
            raise

    def _begun(self, arguments: dict[str, Any]) -> Call:
        context: Context = arguments.pop(_CONTEXT)
        at = datetime.fromtimestamp(self._clock.epoch_ms() / 1_000, UTC)
        call = Call({**arguments}, context.job_id, context.attempt, at)
        if self._job.context_parameter is not None:
            arguments[self._job.context_parameter] = context
        self._job.calls.append(call)
        return call


def _place(job: Job[..., Any]) -> Isolation:
    if job.spec.isolation is not Isolation.PROCESS:
        return job.spec.isolation
    is_async = inspect.iscoroutinefunction(job.function)
    return Isolation.LOOP if is_async else Isolation.THREAD
