"""The one decision, in front of a gRPC service.

A call takes a slot or is refused: there is no lane for it. Refused it is
``RESOURCE_EXHAUSTED`` with the time after which to come again, as gRPC's retries
understand it; late it is ``DEADLINE_EXCEEDED``. A caller that gives up cancels the
handler, and its slot is free; a plain ``def`` handler runs in a thread, which cannot be
cancelled and keeps the slot until it has ended.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Final, Self

import grpc
import grpc.aio

from shifter import ambient
from shifter.app import Shifter
from shifter.errors import ConfigError
from shifter.grpc.metadata import PRIORITY, Told, pushback, read_metadata
from shifter.grpc.threads import PlainCall, is_plain
from shifter.model.duration import MAX_DURATION_MS
from shifter.model.job import JobSpec
from shifter.model.priority import Priority
from shifter.model.reason import Reason
from shifter.policy.case import Decision, Verdict
from shifter.produce.options import CallOptions, CallPlan, plan_call

_HEALTH: Final = "/grpc.health.v1.Health/"


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Runs or refuses calls.

    Args:
        app: Its admission decides; its slots are the setting ``concurrency``.
        classify: The priority of a method such as ``/shop.Orders/Get``; ``None`` where
            it does not know: then what the caller says, or ``NORMAL``.
        highest: The most that a caller may say; lower it where callers are not yours.
        health: Beginnings of methods that are never refused.
        threads: Where plain ``def`` handlers run, as the ``migration_thread_pool`` of
            ``grpc.aio.server``; by default a thread for each slot.

    Attributes:
        ignored: How often which metadata was left out, or cut to its bounds.

    Raises:
        ConfigError: ``health`` is no collection of beginnings: ``["/shop.Ping/"]``.
    """

    def __init__(
        self,
        app: Shifter,
        *,
        classify: Callable[[str], Priority | None] | None = None,
        highest: Priority = Priority.CRITICAL,
        health: Iterable[str] = (_HEALTH,),
        threads: Executor | None = None,
    ) -> None:
        self._app, self._classify, self._highest = app, classify, highest
        self._health, self._threads = _checked(health), threads
        self.ignored: Counter[str] = Counter()
        spec = JobSpec(name="grpc", queue="grpc")
        self._plans = {
            priority: plan_call(app.namespace, spec, CallOptions(priority=priority))
            for priority in Priority
        }

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Put the decision around a method's handler."""
        handler, method = await continuation(handler_call_details), ""
        if handler is not None:
            method = handler_call_details.method
        if handler is None or method.startswith(self._health):
            return handler
        told = read_metadata(handler_call_details.invocation_metadata, self.ignored)
        return self._guarded(handler, told, self._priority(method, told))

    def _guarded(self, handler: Any, told: Told, priority: Priority) -> Any:
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        kind = f"{'stream' if streams_in else 'unary'}_"
        kind += "stream" if streams_out else "unary"
        behaviour = getattr(handler, kind)

        async def answer(request: Any, context: Any) -> Any:
            with _Call(self._app, self._plans[priority], told, context) as call:
                await call.decide()
                if is_plain(behaviour):
                    return await self._plain(behaviour, context).value(request)
                return await behaviour(request, context)

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            with _Call(self._app, self._plans[priority], told, context) as call:
                await call.decide()
                if is_plain(behaviour):
                    found = self._plain(behaviour, context).values(request)
                else:
                    found = behaviour(request, context)
                if inspect.isawaitable(found):
                    await found
                    return
                async with contextlib.aclosing(found):
                    async for part in found:
                        yield part

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            answers if streams_out else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _plain(self, behaviour: Callable[..., Any], context: Any) -> PlainCall:
        threads = self._threads
        if threads is None:
            threads = self._app.admission.threads
        return PlainCall(behaviour, context, threads)

    def _priority(self, method: str, told: Told) -> Priority:
        known = None if self._classify is None else self._classify(method)
        if known is not None:
            return known
        said = Priority.NORMAL if told.priority is None else told.priority
        if said.rank <= self._highest.rank:
            return said
        self.ignored[PRIORITY] += 1
        return self._highest


def _checked(health: Iterable[str]) -> tuple[str, ...]:
    """Beginnings of methods; ``"/"`` is one of them all."""
    found = () if isinstance(health, str) else tuple(health)
    for beginning in found:
        if not beginning.startswith("/") or beginning == "/":
            want = "a method begins with '/' and the name of its service"
            raise ConfigError("health", beginning, want)
    if isinstance(health, str):
        raise ConfigError("health", health, f"use a collection: [{health!r}]")
    return found


class _Call:
    """The slot of one call, which has a task of its own."""

    def __init__(self, app: Shifter, plan: CallPlan, told: Told, context: Any) -> None:
        self._admission, self._plan = app.admission, plan
        self._told, self._context = told, context
        self._decision: Decision | None = None

    def __enter__(self) -> Self:
        clock, left_s = self._admission.clock, self._context.time_remaining()
        self._plan = self._plan._replace(is_retry=self._told.is_retry)
        deadline_ms = None
        if left_s is not None:
            left_ms = min(MAX_DURATION_MS, max(0, int(left_s * 1_000)))
            self._plan = self._plan._replace(deadline_ms=left_ms)
            deadline_ms = clock.epoch_ms() + left_ms
        ambient.begin(
            deadline_ms,
            draw=self._told.draw,
            arrived_at=clock.monotonic(),
            priority=self._plan.priority,
            is_retry=self._told.is_retry,
        )
        return self

    async def decide(self) -> None:
        """Take a slot, or end the call."""
        decision = self._admission.decide(self._plan, can_run=True, can_wait=False)
        if decision.verdict is Verdict.RUN:
            self._decision = decision
            return
        code, trailing = (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            pushback(decision.retry_after_s),
        )
        if decision.reason is Reason.EXPIRED:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        await self._context.abort(
            code, decision.reason.value, trailing_metadata=(trailing,)
        )

    def __exit__(self, *_: object) -> None:
        if self._decision is not None:
            self._admission.let_go(self._decision)
