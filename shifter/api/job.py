"""A registered job type, as its users hold it: call, submit, defer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)
from uuid import UUID

from shifter.errors import (
    ConfigError,
    OutcomeUnknownError,
    PayloadError,
)
from shifter.jobs.context import Context
from shifter.jobs.registered import Call
from shifter.model.answer import Answer, Submitted
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.model.time import Duration
from shifter.policy.protection.dependency import Dependency
from shifter.produce.options import CallOptions, CallPlan, as_of_now, plan_call
from shifter.produce.publisher import Publisher
from shifter.produce.submission import Submission
from shifter.runtime.handler import check_handler, is_coroutine_function
from shifter.wire.payload import PayloadCodec

if TYPE_CHECKING:
    from shifter.api.app import Shifter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class _TakesCtx(Protocol[R_co]):
    """A handler with a `Context` called ``ctx``, wherever it stands."""

    def __call__(self, *args: Any, ctx: Context, **kwargs: Any) -> R_co: ...


class _TakesContext(Protocol[R_co]):
    """A handler with a `Context` called ``context``, wherever it stands."""

    def __call__(self, *args: Any, context: Context, **kwargs: Any) -> R_co: ...


ContextLater: TypeAlias = (
    Callable[Concatenate[Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Any, Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Any, Any, Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Any, Any, Any, Any, Context, ...], R]
    | Callable[Concatenate[Any, Any, Any, Any, Any, Any, Any, Context, ...], R]
    | _TakesCtx[R]
    | _TakesContext[R]
)
"""A handler whose `Context` is not its first parameter.

The type system can take a parameter out of a signature only at its front, so the job of
such a handler keeps its result's type and takes any arguments; they are checked when
the job is submitted.
"""


class BoundJob(Generic[P, R_co]):
    """A job with the options of one kind of call; made by `Job.options`, reusable."""

    def __init__(self, job: Job[P, R_co], plan: CallPlan) -> None:
        self._job, self._plan = job, plan

    @property
    def plan(self) -> CallPlan:
        """The job and its options, as the decision and the log see them."""
        return self._plan

    def read_json(self, raw: bytes) -> dict[str, Any]:
        """The arguments of a call that comes as JSON text, read by the handler's types.

        For ``job.submit(**job.read_json(body))``: a `Decimal` keeps all its digits. By
        way of plain JSON values it would not.

        Args:
            raw: One JSON object: arguments by name.

        Raises:
            DecodeError: It is no JSON object.
            PayloadError: It does not fit the handler's signature.
        """
        return self._job.codec.read_json(raw)

    @overload
    async def submit(
        self: BoundJob[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Submitted[T]: ...

    @overload
    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R_co]: ...

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[Any]:
        """Run the job here, or defer it, or answer cheaper, or refuse it.

        The decision waits for nothing. What the handler raises is raised here, as if it
        had been called; `Retry`, `Throttled` and `RejectedError` put the job on its
        lane instead.

        Returns:
            `Ran`, `Deferred`, `Degraded` or `Shed`, each with its reason. What ran into
            its deadline is `Shed` too, as expired.

        Raises:
            PayloadError: The arguments do not fit the handler's signature.
            OutcomeUnknownError: It was deferred, and the log did not answer in time.
            TimeoutError: It was run here, for longer than its timeout.
        """
        submission = self._submission(args, kwargs)
        try:
            with submission.decided(can_run=True) as call:
                if call is not None:
                    await submission.run(call)
            if (record := submission.record()) is not None:
                with submission.recording():
                    submission.recorded(await self._job.app.publisher.defer(*record))
        finally:
            submission.ended()
        return submission.answer

    def submit_sync(self, *args: P.args, **kwargs: P.kwargs) -> Submitted[R_co]:
        """`submit` for services without asyncio; an ``async`` handler is not run here.

        A handler runs in the calling thread and is not stopped at its timeout.
        """
        submission = self._submission(args, kwargs)
        can_run = not is_coroutine_function(self._job.function)
        try:
            with submission.decided(can_run=can_run) as call:
                if call is not None:
                    submission.run_sync(call)
            if (record := submission.record()) is not None:
                with submission.recording():
                    submission.recorded(self._job.app.publisher.defer_sync(*record))
        finally:
            submission.ended()
        return submission.answer

    async def defer(self, *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Write the job to its lane.

        Returns:
            `Deferred` once the record is durable, `Shed` if it certainly is not.

        Raises:
            PayloadError: The arguments do not fit the handler's signature.
            OutcomeUnknownError: The log did not answer in time.
        """
        codec = self._job.codec
        payload = codec.encode(args, kwargs)
        publisher, plan = self._begun()
        return await publisher.defer(plan, payload, codec.content_type)

    def defer_sync(self, *args: P.args, **kwargs: P.kwargs) -> Answer:
        """`defer` for services without asyncio; blocks up to the accept timeout."""
        codec = self._job.codec
        payload = codec.encode(args, kwargs)
        publisher, plan = self._begun()
        return publisher.defer_sync(plan, payload, codec.content_type)

    async def defer_many(
        self, calls: Iterable[tuple[Any, ...] | Mapping[str, Any]]
    ) -> list[Answer | OutcomeUnknownError]:
        """Write many jobs; each call is a tuple of arguments or a mapping of them.

        Returns:
            One answer a call, in order. An outcome that is unknown stands in the list
            as its `OutcomeUnknownError`.

        Raises:
            PayloadError: A call does not fit; the bulks before it are written.
        """
        codec = self._job.codec
        payloads = (
            codec.encode(call, {})
            if isinstance(call, tuple)
            else codec.encode((), call)
            for call in calls
        )
        publisher, plan = self._begun()
        return await publisher.defer_many(plan, payloads, codec.content_type)

    def _submission(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Submission:
        job = self._job
        # Before the decision: what does not fit is refused whatever the load.
        payload = job.codec.encode(args, kwargs)
        app = job.app
        admission, spans = app.admission, app.publisher.spans
        return Submission(admission, app.hours, job, self._plan, payload, spans)

    def _begun(self) -> tuple[Publisher, CallPlan]:
        """What writes the call, and the plan as of now."""
        app = self._job.app
        publisher = app.publisher
        return publisher, as_of_now(self._plan, publisher.clock, app.hours)


class Job(BoundJob[P, R_co]):
    """A registered job type. Calling it calls the function itself, unchanged.

    Attributes:
        app: The app it belongs to.
        spec: What was declared.
        function: The handler.
        codec: Reads and writes its payload.
        context_parameter: Name of the handler's `Context` parameter, or ``None``.
        cheaper: Its fallback, if it has one.
        dependency: What the handler calls, if it was declared.
        calls: What a `shifter.testing.TestApp` ran, in order; empty elsewhere.
    """

    def __init__(
        self,
        app: Shifter,
        spec: JobSpec,
        function: Callable[..., Any],
        dependency: Dependency | None = None,
    ) -> None:
        self.app, self.spec, self.function = app, spec, function
        self.dependency = dependency
        self.codec = PayloadCodec(
            function,
            name=spec.name,
            context_type=Context,
            reads_msgpack=spec.msgpack,
        )
        self.context_parameter = self.codec.context_parameter
        self.__wrapped__, self.__doc__ = function, function.__doc__
        self.__name__ = spec.name
        self.calls: list[Call] = []
        self.cheaper: Callable[..., Any] | None = None
        super().__init__(self, plan_call(app.namespace, spec, CallOptions()))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the handler here and now, as if it were not registered."""
        result: R_co = self.function(*args, **kwargs)
        return result

    def fallback(self, function: Callable[P, Any]) -> Callable[P, Any]:
        """Register the cheaper answer: same parameters, called where `submit` degrades.

        Raises:
            ConfigError: Its parameters are other ones, it is a generator function, or
                there is a fallback already.
        """
        if self.cheaper is not None:
            want = "the job has a fallback already"
            raise ConfigError("fallback", function, want)
        check_handler("fallback", function)
        found, own = self._parameters(function), self._parameters(self.function)
        if found != own:
            want = f"use the parameters of {self.spec.name!r}: {own}"
            raise ConfigError("fallback", found, want)
        self.cheaper = function
        return function

    def options(  # noqa: PLR0913  # one keyword an option, all optional
        self,
        *,
        priority: Priority | None = None,
        delay: Duration | None = None,
        due_at: datetime | None = None,
        deadline: Duration | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        job_id: str | UUID | None = None,
    ) -> BoundJob[P, R_co]:
        """This job with other options; ``None`` leaves the job's own.

        Args:
            priority: Which lane of the job's queue.
            delay: Not before this much later; up to 30 days.
            due_at: Not before this instant, with a time zone; excludes ``delay``.
            deadline: After this long, from submission, it is not started any more.
            key: Jobs of one key and lane run one after another, in order.
            idempotency_key: Jobs of this type and key take effect once within the
                job's dedup window.
            job_id: A UUID of the caller's own, in any spelling; submitting it again is
                safe.

        Raises:
            ConfigError: An option is malformed or contradicts another one.
        """
        options = CallOptions(
            priority, delay, due_at, deadline, key, idempotency_key, job_id
        )
        return BoundJob(self, plan_call(self.app.namespace, self.spec, options))

    def check_alone(self) -> None:
        """Return if the handler runs without any argument, as the clock submits it.

        Raises:
            ConfigError: A parameter has no default.
        """
        try:
            self.codec.encode((), {})
        except PayloadError as error:
            want = f"the clock gives no arguments: {error.detail}"
            raise ConfigError("cron", self.spec.cron, want) from None

    def _parameters(self, function: Callable[..., Any]) -> list[str]:
        """The parameters of the payload; each function may take a context or not."""
        names = inspect.signature(function).parameters
        return sorted(name for name in names if name != self.context_parameter)

    def __repr__(self) -> str:
        return f"Job({self.spec.name!r}, queue={self.spec.queue!r})"


class JobDecorator:
    """Type of ``app.job(...)``: keeps the handler's signature, without `Context`."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R]) -> Job[P, R]: ...
    @overload
    def __call__(self, function: ContextLater[R]) -> Job[..., R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Job[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> Any:
        """The job of a handler; what does it is another function."""
        raise NotImplementedError
