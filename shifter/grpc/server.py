"""Admission of the calls of a gRPC service.

A call takes a slot or is refused; it cannot be deferred. A refused call ends as
``RESOURCE_EXHAUSTED`` with the push-back that gRPC's retries heed, a late one as
``DEADLINE_EXCEEDED``. If the caller gives up, the handler is cancelled and its slot is
free. A plain ``def`` handler runs in a thread, which cannot be cancelled: it keeps the
slot until it has ended.

``grpc.aio.server`` and ``grpc.server`` take the same interceptor. The first awaits what
`AdmissionInterceptor.intercept_service` returns and decides on its event loop; the
second takes it as it is, and decides in the thread of the call.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple, NoReturn

import grpc
import grpc.aio

from shifter.api.app import Shifter
from shifter.errors import ConfigError
from shifter.fleet.calls import CALLER
from shifter.grpc.metadata import PRIORITY, CallerMetadata, pushback, read_metadata
from shifter.grpc.threads import PlainCall, is_plain
from shifter.jobs import request_scope
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.model.time import MAX_DURATION_MS
from shifter.policy.admission.input import Verdict
from shifter.policy.admission.prioritizer import granted_priority
from shifter.produce.admission import Admission
from shifter.produce.options import CallOptions, CallPlan, plan_call

_CODES: Final = {Reason.EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED}
_HEALTH: Final = "/grpc.health.v1.Health/"


class AdmissionInterceptor(grpc.aio.ServerInterceptor, grpc.ServerInterceptor):
    """Runs or refuses calls, on ``grpc.aio.server`` or ``grpc.server``.

    Args:
        app: Its admission decides; its number of slots is the setting ``concurrency``.
        classify: The priority of a method such as ``/shop.Orders/Get``; ``None`` means
            ``NORMAL``.
        trusts_priority: Whether callers are trusted: then they may raise the priority
            of a call (they may always lower it), and ``shifter-height`` is read.
        highest: The highest priority that a trusted caller may ask for; if it is given,
            callers are trusted.
        health: Prefixes of methods that are never refused.
        threads: Where plain ``def`` handlers of a ``grpc.aio.server`` run, instead of
            its ``migration_thread_pool``; by default a thread for each slot.

    Attributes:
        ignored: How often metadata was ignored, or cut to its bounds, by name.

    Raises:
        ConfigError: ``health`` is no collection of prefixes, as ``["/shop.Ping/"]`` is.
    """

    def __init__(
        self,
        app: Shifter,
        *,
        classify: Callable[[str], Priority | None] | None = None,
        trusts_priority: bool = False,
        highest: Priority | None = None,
        health: Iterable[str] = (_HEALTH,),
        threads: Executor | None = None,
    ) -> None:
        self._app, self._classify = app, classify
        self._highest = highest
        if highest is None and trusts_priority:
            self._highest = Priority.CRITICAL
        self._health, self._threads = _checked(health), threads
        self.ignored: Counter[str] = Counter()
        spec = JobSpec(name="grpc", queue="grpc")
        self._plans = {
            priority: plan_call(app.namespace, spec, CallOptions(priority=priority))
            for priority in Priority
        }

    def intercept_service(
        self,
        continuation: Callable[[Any], Any],
        handler_call_details: Any,
    ) -> Any:
        """Wrap the handler of a method; gRPC calls this."""
        arrived_at = self._app.admission.clock.monotonic()
        found = continuation(handler_call_details)
        if inspect.isawaitable(found):
            return self._awaited(found, handler_call_details, arrived_at)
        guards = _Guards(self, handler_call_details, arrived_at)
        return guards.around(found, guards.answer, guards.answers)

    async def _awaited(
        self, found: Awaitable[Any], details: Any, arrived_at: float
    ) -> Any:
        handler, guards = await found, _Guards(self, details, arrived_at)
        return guards.around(handler, guards.answer_aio, guards.answers_aio)

    def call(self, method: str, caller: CallerMetadata, arrived_at: float) -> GrpcCall:
        """Prepare the decision about a call that has arrived; the guards use this.

        Args:
            method: Full name of the method.
            caller: What the call's metadata say about its caller.
            arrived_at: Monotonic seconds.
        """
        own = None if self._classify is None else self._classify(method)
        priority, was_cut = granted_priority(
            Priority.NORMAL if own is None else own,
            caller.priority,
            highest=self._highest,
        )
        if was_cut:
            self.ignored[PRIORITY] += 1
        if self._highest is None:
            caller = caller._replace(draw=None)
        return GrpcCall(self._app.admission, self._plans[priority], caller, arrived_at)

    def passes(self, method: str) -> bool:
        """Whether a method is never refused."""
        return method.startswith(self._health)

    def in_thread(self, behaviour: Callable[..., Any], context: Any) -> PlainCall:
        """A call of a plain handler behind an event loop."""
        threads = self._threads
        if threads is None:
            threads = self._app.admission.threads
        return PlainCall(behaviour, context, threads)


class GrpcRefusal(NamedTuple):
    """The status of a call that is refused.

    Attributes:
        code: The status code.
        details: The reason.
        trailing: Metadata with the time of the next attempt.
    """

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...]


class GrpcCall(contextlib.ExitStack):
    """A call from its arrival to its end; frees its slot at the end of the block.

    The block runs in the context that gRPC's servers make for each call; the deadline
    and the other facts of the call are set there.

    Args:
        admission: The admission that decides.
        plan: The call with its options, as input of the decision.
        caller: The metadata that the caller sent.
        arrived_at: Time of its arrival, monotonic seconds.
    """

    def __init__(
        self,
        admission: Admission,
        plan: CallPlan,
        caller: CallerMetadata,
        arrived_at: float,
    ) -> None:
        super().__init__()
        self._admission, self._caller, self._arrived_at = admission, caller, arrived_at
        self._plan = plan._replace(is_retry=caller.is_retry)

    def decide(self, context: Any) -> GrpcRefusal | None:
        """Take a slot, or return the refusal.

        Args:
            context: The context of the call, of either kind of server.
        """
        left_s, deadline_ms = context.time_remaining(), None
        # A synchronous server reports a huge value for a call without a deadline.
        if left_s is not None and left_s * 1_000 < MAX_DURATION_MS:
            left_ms = max(0, int(left_s * 1_000))
            self._plan = self._plan._replace(deadline_ms=left_ms)
            deadline_ms = self._admission.clock.epoch_ms() + left_ms
        traceparent, beside = self._caller.trace
        request_scope.begin(
            request_scope.Ambient(
                deadline_ms,
                draw=self._caller.draw,
                arrived_at=self._arrived_at,
                priority=self._plan.priority,
                is_retry=self._caller.is_retry,
                traceparent=traceparent,
                beside=beside,
            )
        )
        decision = self.enter_context(self._admission.slot(self._plan))
        if decision.verdict is Verdict.RUN:
            _cut_with(context)
            return None
        code = _CODES.get(decision.reason, grpc.StatusCode.RESOURCE_EXHAUSTED)
        trailing = pushback(decision.retry_after_s)
        return GrpcRefusal(code, decision.reason.value, (trailing,))


def _cut_with(context: Any) -> None:
    """Cut the calls of the handler when gRPC ends the call; its thread may go on.

    On an event loop the end of the handler's task does so, or `PlainCall`.
    """
    caller = CALLER.get()
    if caller is not None and hasattr(context, "add_callback"):
        context.add_callback(caller.cut)


class _Guards:
    """The functions that gRPC calls instead of a handler."""

    def __init__(
        self, interceptor: AdmissionInterceptor, details: Any, arrived_at: float
    ) -> None:
        self._interceptor, self._details = interceptor, details
        self._arrived_at = arrived_at
        self._behaviour: Callable[..., Any] = lambda *_: None

    def around(
        self, handler: Any, answer: Callable[..., Any], answers: Callable[..., Any]
    ) -> Any:
        """The handler, wrapped by the decision."""
        if handler is None or self._interceptor.passes(self._details.method):
            return handler
        kind = "stream_" if handler.request_streaming else "unary_"
        kind += "stream" if handler.response_streaming else "unary"
        self._behaviour = getattr(handler, kind)
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            answers if handler.response_streaming else answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def answer(self, request: Any, context: Any) -> Any:
        with self._call() as call:
            if (refusal := call.decide(context)) is not None:
                _abort(refusal, context)
            return self._behaviour(request, context)

    def answers(self, request: Any, context: Any) -> Iterator[Any]:
        with self._call() as call:
            if (refusal := call.decide(context)) is not None:
                _abort(refusal, context)
            yield from self._behaviour(request, context)

    async def answer_aio(self, request: Any, context: Any) -> Any:
        with self._call() as call:
            if (refusal := call.decide(context)) is not None:
                await context.abort(*refusal)
            if is_plain(self._behaviour):
                plain = self._interceptor.in_thread(self._behaviour, context)
                return await plain.value(request)
            return await self._behaviour(request, context)

    async def answers_aio(self, request: Any, context: Any) -> AsyncIterator[Any]:
        with self._call() as call:
            if (refusal := call.decide(context)) is not None:
                await context.abort(*refusal)
            if is_plain(self._behaviour):
                plain = self._interceptor.in_thread(self._behaviour, context)
                found: Any = plain.values(request)
            else:
                found = self._behaviour(request, context)
            if inspect.isawaitable(found):
                await found
                return
            # Closed here, since a generator that is left open runs its cleanup, and
            # keeps what it holds, until it is collected.
            async with contextlib.aclosing(found):
                async for part in found:
                    yield part

    def _call(self) -> GrpcCall:
        ignored, details = self._interceptor.ignored, self._details
        caller = read_metadata(details.invocation_metadata, ignored)
        return self._interceptor.call(details.method, caller, self._arrived_at)


def _abort(refusal: GrpcRefusal, context: Any) -> NoReturn:
    context.set_trailing_metadata(refusal.trailing)
    context.abort(refusal.code, refusal.details)
    raise AssertionError  # abort has raised


def _checked(health: Iterable[str]) -> tuple[str, ...]:
    """Check prefixes of methods; ``"/"`` is refused, as every method begins with it."""
    found = () if isinstance(health, str) else tuple(health)
    for beginning in found:
        if not beginning.startswith("/") or beginning == "/":
            want = "a method begins with '/' and the name of its service"
            raise ConfigError("health", beginning, want)
    if isinstance(health, str):
        raise ConfigError("health", health, f"use a collection: [{health!r}]")
    return found
