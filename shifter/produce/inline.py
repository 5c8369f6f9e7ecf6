"""Runs a handler, or its fallback, in the process that submitted the job."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

from shifter.errors import DeadlineExceededError
from shifter.jobs.context import Context
from shifter.jobs.request_scope import ambient, current_traceparent, nearer, within
from shifter.model.answer import Quality
from shifter.model.time import EpochMs
from shifter.policy.delivery.expiry import attempt_limit_ms
from shifter.ports import Clock
from shifter.produce.options import CallPlan
from shifter.runtime.handler import check_value, completed, is_coroutine_function


class Inline(NamedTuple):
    """One call, ready to be made.

    Attributes:
        function: The handler, or the fallback.
        arguments: By name, the context included.
        job_id: The job's id.
        deadline_ms: Its deadline, the request's included; ``None`` without one.
        limit_ms: When its time is up, epoch milliseconds.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    job_id: str
    deadline_ms: int | None
    limit_ms: EpochMs


def prepare(  # noqa: PLR0913  # all that a context is made of
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    plan: CallPlan,
    clock: Clock,
    *,
    job_id: str,
    context_parameter: str | None,
    quality: Quality,
) -> Inline:
    """Work out limits and context of a call.

    Args:
        function: What to call.
        arguments: By name, without the context.
        plan: The job and its options.
        clock: Wall time.
        job_id: The job's id.
        context_parameter: Where the function wants its `Context`, if it does.
        quality: Of the fleet, now.
    """
    now, own = clock.epoch_ms(), plan.deadline_ms
    deadline_ms = nearer(ambient().deadline_ms, None if own is None else now + own)
    limit_ms = EpochMs(now + attempt_limit_ms(plan.spec.timeout_ms, deadline_ms, now))
    if context_parameter is not None:
        context = Context(
            job_id=job_id,
            job_type=plan.spec.name,
            attempt=1,
            fence=0,
            limit_ms=limit_ms,
            clock=clock,
            traceparent=current_traceparent(),
            quality=quality,
        )
        arguments = {**arguments, context_parameter: context}
    return Inline(function, arguments, job_id, deadline_ms, limit_ms)


async def run_inline(
    inline: Inline,
    clock: Clock,
    threads: Executor,
    began: Callable[[Future[Any]], None],
) -> Any:
    """Call it: a coroutine in this loop, anything else in a thread.

    Args:
        inline: The call.
        clock: Wall time.
        threads: As many as there are slots, or a call would stand in line unseen.
        began: Called with what is done once a thread has left the handler.

    Raises:
        DeadlineExceededError: The deadline passed; the call was cancelled, in a thread
            at its next bytecode, which is not waited for.
        TimeoutError: The job's own timeout passed, with the same effect.
    """
    # asyncio comes with it, and `import shifter` does without.
    from shifter.runtime.threads import ThreadCall  # noqa: PLC0415

    with within(deadline_ms=inline.deadline_ms):
        if is_coroutine_function(inline.function):
            value = completed(inline.function(**inline.arguments))
            return await _within_limit(inline, clock, value)
        call = ThreadCall(threads, inline.function, inline.arguments)
        began(call.future)
        try:
            return await _within_limit(inline, clock, call.value())
        finally:
            call.stop()


def run_inline_sync(inline: Inline, clock: Clock, threads: Executor) -> Any:
    """Call a function in the calling thread, where nothing can stop it.

    Args:
        inline: The call.
        clock: Wall time.
        threads: For an event loop, where the function returns an awaitable.

    Raises:
        DeadlineExceededError: The deadline passed while the awaitable was awaited.
        TimeoutError: The job's own timeout passed then.
    """
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    with within(deadline_ms=inline.deadline_ms):
        value = inline.function(**inline.arguments)
        if not inspect.isawaitable(value):
            check_value(value)
            return value
        ending = _within_limit(inline, clock, completed(value))
        # This thread may have a loop that runs already.
        run = contextvars.copy_context().run
        return threads.submit(run, asyncio.run, ending).result()


async def _within_limit(
    inline: Inline, clock: Clock, ending: Coroutine[Any, Any, Any]
) -> Any:
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    limit = asyncio.timeout((inline.limit_ms - clock.epoch_ms()) / 1_000)
    try:
        async with limit:
            return await ending
    except TimeoutError:
        if limit.expired() and inline.limit_ms == inline.deadline_ms:
            raise _late(inline, clock) from None
        raise


def _late(inline: Inline, clock: Clock) -> DeadlineExceededError:
    late_by_s = max(0, clock.epoch_ms() - inline.limit_ms) / 1_000
    return DeadlineExceededError(inline.job_id, late_by_s)
