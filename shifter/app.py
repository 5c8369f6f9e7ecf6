"""`Shifter`: the object a user holds; it registers jobs and opens the service side.

Nothing here is process-wide: the app is made by the user and passed. Adapters are
loaded by `shifter.wiring` on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from shifter.call import Call
from shifter.config import Settings, load_settings
from shifter.context import Context
from shifter.declare import JobOptions, declare_job
from shifter.errors import ConfigError, OutcomeUnknownError
from shifter.model.answer import Answer
from shifter.model.duration import Duration
from shifter.model.hint import nearest
from shifter.model.job import JobSpec
from shifter.model.lane import check_name
from shifter.model.priority import Priority
from shifter.model.state import JobStatus
from shifter.policy.guard import Dependency, DependencyOptions
from shifter.ports import ClaimStore
from shifter.produce.options import CallOptions, CallPlan, plan_call
from shifter.produce.publisher import Publisher
from shifter.wire.payload import PayloadCodec

P = ParamSpec("P")
R = TypeVar("R")

_CANCEL_KEEP_MS = 86_400_000


class BoundJob(Generic[P, R]):
    """A job with the options of one kind of call; made by `Job.options`, reusable."""

    def __init__(self, job: Job[P, R], plan: CallPlan) -> None:
        self._job, self._plan = job, plan

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
        publisher = self._job.app.publisher
        return await publisher.defer(self._plan, payload, codec.content_type)

    def defer_sync(self, *args: P.args, **kwargs: P.kwargs) -> Answer:
        """`defer` for services without asyncio; blocks up to the accept timeout."""
        codec = self._job.codec
        payload = codec.encode(args, kwargs)
        publisher = self._job.app.publisher
        return publisher.defer_sync(self._plan, payload, codec.content_type)

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
        publisher = self._job.app.publisher
        return await publisher.defer_many(self._plan, payloads, codec.content_type)


class Job(BoundJob[P, R]):
    """A registered job type. Calling it calls the function itself, unchanged.

    Attributes:
        app: The app it belongs to.
        spec: What was declared.
        function: The handler.
        codec: Reads and writes its payload.
        context_parameter: Name of the handler's `Context` parameter, or ``None``.
        dependency: What the handler calls, or ``None``.
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
        self.codec = PayloadCodec.of(function, name=spec.name, context_type=Context)
        self.context_parameter = self.codec.context_parameter
        self.__wrapped__, self.__doc__ = function, function.__doc__
        self.__name__ = spec.name
        self.calls: list[Call] = []
        super().__init__(self, plan_call(app.namespace, spec, CallOptions()))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the handler here and now, as if it were not registered."""
        result: R = self.function(*args, **kwargs)
        return result

    def options(  # noqa: PLR0913  # one keyword an option, all optional
        self,
        *,
        priority: Priority | None = None,
        delay: Duration | None = None,
        due_at: datetime | None = None,
        deadline: Duration | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        job_id: str | None = None,
    ) -> BoundJob[P, R]:
        """The same job with other options; ``None`` leaves the job's own.

        Args:
            priority: Which lane of the job's queue.
            delay: Not before this much later; up to 30 days.
            due_at: Not before this instant, with a time zone; excludes ``delay``.
            deadline: After this long, from submission, it is not started any more.
            key: Jobs of one key and lane run one after another, in order.
            idempotency_key: Jobs of this type and key take effect once within the
                job's dedup window.
            job_id: A UUID of the caller's own; submitting it again is safe.

        Raises:
            ConfigError: An option is malformed or contradicts another one.
        """
        options = CallOptions(
            priority, delay, due_at, deadline, key, idempotency_key, job_id
        )
        return BoundJob(self, plan_call(self.app.namespace, self.spec, options))

    def __repr__(self) -> str:
        return f"Job({self.spec.name!r}, queue={self.spec.queue!r})"


class Shifter:
    """An app: a namespace with its job types.

    ``async with app:`` or ``with app:`` opens the service's side and flushes it at the
    end. Without it the log is opened by the first call and flushed at exit.

    Args:
        namespace: First part of every topic name; 1-64 lower-case letters, digits and
            inner hyphens.
        settings: Ready settings; by default read from flag, environment, file.

    Raises:
        ConfigError: The namespace or a setting is wrong.
    """

    def __init__(self, namespace: str, *, settings: Settings | None = None) -> None:
        self.namespace = check_name("namespace", namespace)
        self.jobs: dict[str, Job[..., Any]] = {}
        self.dependencies: dict[str, Dependency] = {}
        self._settings = settings
        self._publisher: Publisher | None = None
        self._stand_in: ClaimStore | None = None
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The settings, read and checked once, on first use."""
        if self._settings is None:
            self._settings = load_settings(self.namespace)
        return self._settings

    @property
    def queues(self) -> list[str]:
        """Queues of the registered jobs, ascending."""
        return sorted({job.spec.queue for job in self.jobs.values()})

    @property
    def publisher(self) -> Publisher:
        """The open service side; opened by the first use."""
        publisher = self._publisher
        return self._open() if publisher is None else publisher

    @overload
    def job(self, function: Callable[Concatenate[Context, P], R], /) -> Job[P, R]: ...

    @overload
    def job(self, function: Callable[P, R], /) -> Job[P, R]: ...

    @overload
    def job(self, **options: Unpack[JobOptions]) -> _JobDecorator: ...

    def job(  # type: ignore[misc]  # mypy: a TypedDict that is not total never fits
        self,
        function: Callable[..., Any] | None = None,
        /,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Register a handler: ``async def``, or ``def``, which runs in a thread.

        Args:
            function: When used as a bare decorator.
            name: What the wire calls it; the function's name unless given.
            queue: The queue its lanes belong to; ``default``.
            priority: ``NORMAL`` unless a call says otherwise.
            timeout: Longest one attempt may take; ``"1m"``.
            deadline: After this long, from submission, it is not started any more.
            attempts: Attempts allowed, including the first; 4.
            backoff: Upper bound of the first retry's wait, doubled each time; ``"1s"``.
            max_backoff: Largest upper bound; ``"5m"``.
            isolate: ``"process"`` runs it in a process of its own.
            on_block: ``"dead_letter"`` or ``"hold"``: what happens when the retries
                of a keyed job hold up its key for longer than ``max_block``.
            max_block: See there; ``"5m"``.
            claims: ``"proceed"`` or ``"park"`` while the claim store is away.
            dedup_window: How long an idempotency key is remembered; ``"24h"``.
            uses: The dependency the handler calls: while its circuit is open the job
                waits, and that is no attempt.
            keep_status: How long an ended job's state can be asked for; ``"5m"``.

        Raises:
            ConfigError: An option is wrong, or the name is taken.
        """
        if function is not None:
            return self._register(function, JobOptions())
        return lambda handler: self._register(handler, options)

    def dependency(self, name: str, **options: Unpack[DependencyOptions]) -> Dependency:
        """Declare something that jobs call and that may fail; for ``uses=``.

        Raises:
            ConfigError: The name is wrong, or taken; `Dependency` says the rest.
        """
        if name in self.dependencies:
            raise ConfigError("dependency", name, "another one of this app has it")
        return self.dependencies.setdefault(name, Dependency(name, **options))

    def find_job(self, name: str) -> Job[..., Any]:
        """The job of that name.

        Raises:
            ConfigError: There is none; names the nearest.
        """
        if name not in self.jobs:
            raise ConfigError("job", name, nearest(name, self.jobs, "registered jobs"))
        return self.jobs[name]

    async def status(self, job_id: str) -> JobStatus | None:
        """What the claim store knows of a job.

        Returns:
            ``None`` while it has not been started, and after its state was forgotten.

        Raises:
            StoreUnavailableError: The state store does not answer.
        """
        async with self._claims() as claims:
            return await claims.status(job_id)

    async def cancel(self, job_id: str) -> JobStatus:
        """Ask that a job not run, or not run again.

        A job that runs now sees it in `Context.checkpoint`; one that has ended keeps
        its state.

        Raises:
            StoreUnavailableError: The state store does not answer.
        """
        async with self._claims() as claims:
            return await claims.cancel(job_id, keep_ms=_CANCEL_KEEP_MS)

    @contextlib.contextmanager
    def served_by(self, publisher: Publisher, claims: ClaimStore) -> Generator[None]:
        """Use these, and not what the settings name, while the block runs.

        For tests; whoever closes the app inside the block closes neither of them.
        """
        with self._lock:
            before = self._publisher, self._stand_in
            self._publisher, self._stand_in = publisher, claims
        try:
            yield
        finally:
            with self._lock:
                self._publisher, self._stand_in = before

    def close(self) -> int:
        """Flush and close the service side; returns how many records got no answer."""
        with self._lock:
            if self._stand_in is not None:
                return 0
            publisher, self._publisher = self._publisher, None
        if publisher is None:
            return 0
        return publisher.close(timeout_s=self.settings.accept_timeout_ms / 1_000)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import asyncio  # noqa: PLC0415  # not needed by services without a loop

        await asyncio.to_thread(self.close)

    def _register(
        self, function: Callable[..., Any], options: JobOptions
    ) -> Job[..., Any]:
        spec = declare_job(function, options, taken=self.jobs)
        job: Job[..., Any] = Job(self, spec, function, options.get("uses"))
        self.jobs[spec.name] = job
        return job

    def _open(self) -> Publisher:
        from shifter import wiring  # noqa: PLC0415  # vendors load on first use

        with self._lock:
            if self._publisher is None:
                self._publisher = wiring.open_publisher(self.settings)
            return self._publisher

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncGenerator[ClaimStore]:
        if self._stand_in is not None:
            yield self._stand_in
            return
        from shifter import wiring  # noqa: PLC0415  # vendors load on first use

        claims = wiring.open_claims(self.settings)
        try:
            yield claims
        finally:
            await claims.close()


class _JobDecorator:
    """Type of ``app.job(...)``: keeps the handler's signature, without `Context`."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R]) -> Job[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Job[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> Any:
        raise NotImplementedError
