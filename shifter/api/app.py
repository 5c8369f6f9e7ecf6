"""`Shifter`: the object a user holds; it registers jobs and opens the service side.

Nothing here is process-wide: the app is made by the user and passed. Adapters are
loaded by `shifter.wiring` on first use, so that importing this module stays cheap.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    overload,
)

from shifter.api.dependency import BoundDependency
from shifter.api.job import ContextLater, Job, JobDecorator
from shifter.api.job_states import HasStates
from shifter.api.lane import HasLanes
from shifter.api.worker_group import HasWorkerGroups
from shifter.config import Settings, load_settings
from shifter.errors import ConfigError
from shifter.fleet.calls import Caller
from shifter.jobs.context import Context
from shifter.jobs.options import JobOptions, declare_job
from shifter.model.job import JobSpec
from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.protection.dependency import Dependency, DependencyOptions
from shifter.policy.protection.quality import QualityPolicy
from shifter.ports import ClaimStore
from shifter.produce.admission import Admission, Views
from shifter.produce.observer import ServiceObserver
from shifter.produce.publisher import Publisher
from shifter.runtime.forking import renew_in_child
from shifter.telemetry import Snapshot, Tracing

if TYPE_CHECKING:
    from shifter.deadletter.dead_letters import DeadLetters
    from shifter.produce.watch import DependencyWatch
    from shifter.runtime.threads import BackgroundLoop

_TRACING: Final = Tracing()
_CLOSE_S: Final = 5.0
"""How long a close waits for the watches; one sync or look takes less."""

P = ParamSpec("P")
R = TypeVar("R")


class Shifter(HasLanes, HasStates, HasWorkerGroups):
    """An app: a namespace with its job types.

    ``async with app:`` or ``with app:`` opens the service's side and flushes it at the
    end. Without it the log is opened by the first call and flushed at exit.

    Args:
        namespace: First part of every topic name; 1-64 lower-case letters, digits and
            inner hyphens.
        settings: Ready settings; by default read from flag, environment, file.
        admission: How `Job.submit` decides; see `shifter.protection`.
        quality: When load lowers the quality; by default only a person does.
        tracing: How jobs are traced; see `shifter.telemetry.Tracing`.

    Raises:
        ConfigError: The namespace or a setting is wrong.

    Attributes:
        namespace: First part of every topic name.
        dependencies: What `dependency` declared, by name.
        admission_policy: How `Job.submit` decides.
        quality_policy: When load lowers the quality; ``None`` where only a person does.
        tracing: How jobs are traced.
    """

    def __init__(
        self,
        namespace: str,
        *,
        settings: Settings | None = None,
        admission: AdmissionPolicy | None = None,
        quality: QualityPolicy | None = None,
        tracing: Tracing = _TRACING,
    ) -> None:
        super().__init__(namespace)
        HasWorkerGroups.__init__(self)
        self.dependencies: dict[str, BoundDependency] = {}
        self._settings = settings
        self._publisher: Publisher | None = None
        self.admission_policy = AdmissionPolicy() if admission is None else admission
        self.quality_policy, self.tracing = quality, tracing
        self._admission: Admission | None = None
        self._guard: DependencyWatch | None = None
        self._watch: BackgroundLoop | None = None
        self._stand_in: ClaimStore | None = None
        self._inherited: Admission | None = None
        self._observer = ServiceObserver()
        self._lock = threading.Lock()
        renew_in_child(self._after_fork)

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

    @property
    def admission(self) -> Admission:
        """What decides about `Job.submit`; made by the first use, then watches lanes.

        Its limit is the setting ``concurrency``.
        """
        admission = self._admission
        return self._open_admission() if admission is None else admission

    @overload
    def job(self, function: Callable[Concatenate[Context, P], R], /) -> Job[P, R]: ...

    @overload
    def job(self, function: ContextLater[R], /) -> Job[..., R]: ...

    @overload
    def job(self, function: Callable[P, R], /) -> Job[P, R]: ...

    @overload
    def job(self, **options: Unpack[JobOptions]) -> JobDecorator: ...

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
            aliases: Names that it had before; records under them run as this job.
            queue: The queue its lanes belong to; ``default``.
            priority: ``NORMAL`` unless a call chooses another.
            timeout: Longest one attempt may take; ``"1m"``.
            deadline: After this long, from submission, it is not started any more.
            attempts: Attempts allowed, including the first; 4.
            backoff: Upper bound of the first retry's wait, doubled each time; ``"1s"``.
            max_backoff: Largest upper bound; ``"5m"``.
            retry_on: Exception types, a tuple of them, or a function of an exception:
                after any other failure the job is a dead letter. All, unless given.
            give_up_on: The same, for failures after which the job is a dead letter at
                once; the most specific type of both options holds.
            retry: A `Backoff` by exception type, such as ``{OSError: Backoff("5s")}``;
                these types are retried.
            isolate: ``"process"`` runs it in a process of its own.
            on_block: ``"dead_letter"`` or ``"hold"``: what happens when the retries
                of a keyed job hold up its key for longer than ``max_block``.
            max_block: See there; ``"5m"``.
            claims: ``"proceed"`` or ``"park"`` while the claim store is away.
            dedup_window: How long an idempotency key is remembered; ``"24h"``.
            inline: Whether `Job.submit` may run it in the process that submits.
            window: A `Window`, or several: it starts only while one is open.
            cron: Five fields by UTC, such as ``"0 3 * * *"``: workers submit it by
                themselves, once for the fleet; without required arguments.
            uses: The dependency the handler calls: while it cannot serve, the job
                waits, and that is no attempt.
            on_budget: ``"wait"`` or ``"dead_letter"`` when the dependency's retry
                budget has no retry for it.
            repair: Whether a cheaper answer is followed by the job itself, at LOW.
            opportunistic: Whether it starts only while the fleet is idle; at LOW.
            msgpack: Whether records of other programs may bring its arguments as
                msgpack, beside JSON.
            keep_status: How long an ended job's state can be asked for; ``"5m"``.

        Raises:
            ConfigError: An option is wrong, or the name is taken.
        """
        if function is not None:
            return self._register(function, JobOptions())
        return lambda handler: self._register(handler, options)

    def dependency(
        self, name: str, **options: Unpack[DependencyOptions]
    ) -> BoundDependency:
        """Declare something that jobs call and that may fail.

        For ``uses=`` of jobs, or ``async with`` around a call: see `BoundDependency`.

        Raises:
            ConfigError: The name is wrong or taken, or an option is one that
                `Dependency` refuses.
        """
        if name in self.dependencies:
            raise ConfigError("dependency", name, "another one of this app has it")
        dependency = BoundDependency(self._caller, name, **options)
        self.dependencies[name] = dependency
        return dependency

    @contextlib.asynccontextmanager
    async def dead_letters(self, source: str) -> AsyncGenerator[DeadLetters]:
        """The dead letters of a queue or a topic: look, replay, discard, edit.

        ``async with app.dead_letters("mail") as letters:`` holds connections of its
        own, to the log and the state store that the settings name.

        Args:
            source: A queue of the namespace, or any topic's own name.

        Raises:
            ConfigError: There is no such topic; names the nearest.
        """
        from shifter.wiring.dead_letters import opened_dead_letters  # noqa: PLC0415  # on first use

        async with opened_dead_letters(self.settings, source, self.tracing) as letters:
            yield letters

    @contextlib.contextmanager
    def served_by(self, publisher: Publisher, claims: ClaimStore) -> Generator[None]:
        """Use these, and not what the settings name, while the block runs.

        For tests. Closing the app inside the block closes neither of them.
        """
        with self._lock:
            before = self._publisher, self._stand_in
            deciding = self._admission, self._watch, self._guard
            self._publisher, self._stand_in = publisher, claims
            self._admission, self._watch, self._guard = None, None, None
        try:
            yield
        finally:
            self._close_admission()
            with self._lock:
                self._publisher, self._stand_in = before
                self._admission, self._watch, self._guard = deciding

    def metrics(self) -> Snapshot:
        """What this process has counted as a service, by metric and label values.

        It may wait for a read of the spool's file: call it in a thread.
        `shifter.telemetry.asgi_metrics` serves it to Prometheus.
        """
        guard, admission = self._guard, self._admission
        lag_s = 0.0 if admission is None else admission.loop_lag_s
        replica = None if guard is None else guard.replica
        return self._observer.snapshot(replica, loop_lag_s=lag_s)

    def close(self) -> int:
        """Flush and close the service side; returns how many records got no answer."""
        with self._lock:
            if self._stand_in is not None:
                return 0
            publisher, self._publisher = self._publisher, None
        self._observer.spool = None
        self._close_admission()
        if publisher is None:
            return 0
        return publisher.close(timeout_s=self.settings.accept_timeout_ms / 1_000)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        from shifter.runtime.threads import in_thread  # noqa: PLC0415  # not needed without a loop

        await in_thread(self.close)

    def _register(
        self, function: Callable[..., Any], options: JobOptions
    ) -> Job[..., Any]:
        spec = declare_job(function, options, taken=self.handlers)
        self._check_lanes(spec)
        job: Job[..., Any] = Job(self, spec, function, options.get("uses"))
        if spec.cron is not None:
            job.check_alone()
        self.jobs[spec.name] = job
        self.handlers |= dict.fromkeys((spec.name, *spec.aliases), job)
        return job

    def _open(self) -> Publisher:
        from shifter.wiring import service  # noqa: PLC0415  # vendors load on first use

        with self._lock:
            if self._publisher is None:
                self._publisher = service.open_publisher(
                    self.settings, self._observer, self.tracing
                )
            return self._publisher

    def _is_unrecorded(self, job_id: str) -> bool:
        publisher = self._publisher
        return publisher is not None and publisher.is_unrecorded(job_id)

    def _open_admission(self) -> Admission:
        from shifter.produce.watch import watching  # noqa: PLC0415  # on first use
        from shifter.wiring.service import dependency_watch, lane_watch  # noqa: PLC0415

        publisher = self.publisher
        with self._lock:
            if self._admission is None:
                lanes = None
                if self._stand_in is None:
                    lanes = lane_watch(self.settings, lambda: self.queues)
                admission = self._inherited or Admission(
                    self.admission_policy,
                    publisher.clock,
                    limit=self.settings.concurrency,
                )
                admission.answered = self._observer.answered
                events = publisher.events
                admission.decided = None if events is None else events.decided
                self._guard = guard = dependency_watch(
                    lambda: self.settings,
                    self.dependencies.values(),
                    self._dependency_of,
                    publisher.clock,
                    quality=self.quality_policy,
                    observer=self._observer,
                )
                guard.replica.tenants.append(self.hours)
                admission.views = Views(
                    lanes, guard.needs, guard.calling, guard.serving
                )
                self._admission, self._inherited = admission, None
                # An app with a stand-in decides by itself, and as on an idle machine.
                if self._stand_in is None:
                    version = self.settings.app_version or ""
                    report = self._observer.service_report
                    guard.report_on(
                        admission, partial(report, publisher.clock, version)
                    )
                    self._watch = watching(lanes, guard)
                else:
                    admission.lag_ms = lambda: 0.0
            return self._admission

    def _after_fork(self) -> None:
        # The threads behind the views stayed with the parent; the next use opens new
        # ones. The admission stays the same object: users may hold it.
        self._lock = threading.Lock()
        if self._admission is not None:
            self._inherited = self._admission
        self._admission = self._watch = self._guard = None

    def _dependency_of(self, spec: JobSpec) -> Dependency | None:
        """What a job calls; a request that is no job has a spec of its own."""
        job = self.jobs.get(spec.name)
        return None if job is None or job.spec is not spec else job.dependency

    def _caller(self) -> Caller:
        self._open_admission()
        if self._guard is None:
            raise ConfigError("app", self.namespace, "it is being closed")
        return self._guard.caller

    def _close_admission(self) -> None:
        with self._lock:
            admission, self._admission = self._admission, None
            watch, guard = self._watch, self._guard
            self._watch = self._guard = None
        if watch is not None:
            watch.stop(_CLOSE_S)
        if guard is not None:
            # Calls that ended since the last scrape are counted.
            self._observer.snapshot(guard.replica)
        if admission is not None:
            admission.close()
