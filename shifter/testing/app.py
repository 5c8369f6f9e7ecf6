"""`TestApp`: a user's app on memory, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Self, TypeAlias

from shifter.api.app import Shifter
from shifter.api.job import Job
from shifter.errors import ConfigError
from shifter.fleet.hours import hours_scope
from shifter.model.job import check_job_id
from shifter.model.lane import Priority, dead_letter_topic
from shifter.model.time import Duration, duration_ms
from shifter.ops.job_history import Entry
from shifter.policy.schedule.hours import HoursOverride
from shifter.telemetry.tracing import Spans
from shifter.testing.backend import MemoryBackend
from shifter.testing.clock import FakeClock
from shifter.testing.driver import Driver, Worker
from shifter.testing.handler import virtual_timers
from shifter.testing.report import DrainReport, Letter, read_letter

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class TestApp:
    """An app whose jobs run in this process, when the test drains it.

    While the block runs the app defers to a log in memory, and `drain` runs what is
    due with the worker that runs in production, on a clock that moves by itself. Jobs
    must be registered before the block is entered.

    Args:
        app: The app; its settings and environment are not read.
        start: When the test's time starts; with a time zone.
        concurrency: Attempts at once; with 1 everything runs in the order it is due.
        patience: Real time a handler may wait for something that is not the clock.
        seed: Seeds the jitter of retries.

    Raises:
        ConfigError: An argument is wrong.

    >>> app = Shifter("shop")
    >>> @app.job
    ... async def greet(name: str) -> None: ...
    >>> with TestApp(app) as test:
    ...     _ = greet.defer_sync("ann")
    ...     test.drain_sync().done, greet.calls[0].arguments
    (1, {'name': 'ann'})
    """

    __test__: ClassVar = False  # or pytest would take it for a test

    def __init__(
        self,
        app: Shifter,
        *,
        start: datetime = _START,
        concurrency: int = 1,
        patience: Duration = "30s",
        seed: int = 0,
    ) -> None:
        if start.tzinfo is None:
            raise ConfigError("start", start, "use a datetime with a time zone")
        if concurrency < 1:
            raise ConfigError("concurrency", concurrency, "must be at least 1")
        self._app, self._concurrency, self._seed = app, concurrency, seed
        self._patience_s = duration_ms("patience", patience, minimum_ms=1) / 1_000
        epoch_ms = round(start.timestamp() * 1_000)
        spans = Spans(app.tracing, system="memory")
        self._backend = MemoryBackend(app.namespace, epoch_ms=epoch_ms, spans=spans)
        self._opened = contextlib.ExitStack()
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: Worker | None = None
        self._load = 0.0

    @property
    def now(self) -> datetime:
        """The test's time, UTC."""
        epoch_ms = self._backend.clocks.front.epoch_ms()
        return datetime.fromtimestamp(epoch_ms / 1_000, UTC)

    @property
    def clock(self) -> FakeClock:
        """The test's time, for code that takes a clock; only `drain` moves it."""
        return self._backend.clocks.front

    async def drain(self, advance: Duration = 0) -> DrainReport:
        """Run everything that is due until so much time has passed.

        Jobs start when they are due, retries and delays included, with the clock where
        it would be. What has started is let end, even if this takes the clock further.

        Args:
            advance: How far the clock goes; by default only what is due now is run.

        Returns:
            What happened, and how many jobs wait now.

        Raises:
            StuckError: A handler waits for something real that does not happen.
        """
        advance_s = duration_ms("advance", advance) / 1_000
        self._backend.create_topics(self._app.queues)
        worker = await self._started()
        before = worker.tally.counts.copy()
        driver = Driver(
            worker,
            self._backend.clocks,
            lease_s=self._backend.settings.lease_ms / 1_000,
            patience_s=self._patience_s,
        )
        await driver.run(advance_s)
        worker.tally.fold()
        await self._backend.events.write()
        waiting = await self._backend.waiting(self._app.queues)
        return DrainReport(**(worker.tally.counts - before), waiting=waiting)

    def drain_sync(self, advance: Duration = 0) -> DrainReport:
        """`drain` for tests without asyncio; use it with ``with``."""
        if self._runner is None:
            self._runner = self._opened.enter_context(asyncio.Runner())
        return self._runner.run(self.drain(advance))

    @contextlib.contextmanager
    def beside(self, other: Shifter) -> Generator[None]:
        """Let another version of the app submit to the same lanes while the block runs.

        `drain` runs jobs with the app under test alone. A job that this app does not
        have waits for a worker that has it, as in a deploy, and becomes a dead letter
        when the setting ``deploy_grace`` is over.

        Args:
            other: Of the same namespace.

        Raises:
            ConfigError: Its namespace is another one.
        """
        if other.namespace != self._app.namespace:
            want = f"use the namespace of the app under test: {self._app.namespace!r}"
            raise ConfigError("namespace", other.namespace, want)
        self._backend.create_topics(other.queues)
        with other.served_by(self._backend.publisher, self._backend.claims):
            yield

    def fail_with(
        self,
        job: Job[..., Any],
        error: BaseException | type[BaseException],
        *,
        times: int | None = 1,
    ) -> None:
        """Let the next runs of a job raise this in place of its handler.

        Args:
            job: The job.
            error: What is raised: a failure, or a signal such as ``Retry("10s")``.
            times: How many runs; ``None`` for all that follow.

        Raises:
            ConfigError: ``times`` is below 1, or the job is not this app's.
        """
        if times is not None and times < 1:
            raise ConfigError("times", times, "must be at least 1")
        found = self._app.find_job(job.spec.name)
        planned = error() if isinstance(error, type) else error
        self._backend.failures.plan(found.spec.name, planned, times)

    def open_now(
        self,
        queue: str | None = None,
        *,
        priority: Priority | None = None,
        job: str | None = None,
        for_: Duration = "1h",
    ) -> None:
        """Let jobs start outside their windows, as ``shifter window open-now``.

        Args:
            queue: Queue of the jobs.
            priority: Of that lane of the queue only.
            job: Instead of a queue: one type of job.
            for_: How long.
        """
        self._set_hours(hours_scope(queue, priority, job), for_, is_open=True)

    def close_now(
        self,
        queue: str | None = None,
        *,
        priority: Priority | None = None,
        job: str | None = None,
        for_: Duration = "1h",
    ) -> None:
        """Start no more of these jobs, as ``shifter window close-now``.

        Args:
            queue: Queue of the jobs.
            priority: Of that lane of the queue only.
            job: Instead of a queue: one type of job.
            for_: How long.
        """
        self._set_hours(hours_scope(queue, priority, job), for_, is_open=False)

    def auto(self) -> None:
        """Let windows count again: nothing is set by hand any more."""
        self._app.hours.set_by_hand({})

    def fleet_load(self, load: float) -> None:
        """Let some other process of the fleet report so much load.

        Args:
            load: From 0.8 on there is no quiet time.
        """
        self._load = load
        if self._worker is not None:
            self._worker.drain.replica.highest_load = load

    def _set_hours(self, scope: str, for_: Duration, *, is_open: bool) -> None:
        left_ms = duration_ms("for_", for_, minimum_ms=1)
        until_ms = self._backend.clocks.front.epoch_ms() + left_ms
        setting = HoursOverride(is_open, until_ms)
        self._app.hours.set_by_hand({**self._app.hours.by_hand, scope: setting})

    def dead_letters(self, queue: str | None = None) -> list[Letter]:
        """The dead letters of a queue, oldest first; of all queues by default.

        Raises:
            ConfigError: No job of the app uses that queue.
        """
        queues = self._app.queues
        if queue is not None and queue not in queues:
            raise ConfigError("queue", queue, f"queues of the app: {queues}")
        letters = [
            read_letter(delivery, self._app.handlers)
            for name in queues
            if queue in (None, name)
            for delivery in self._backend.log.entries(
                dead_letter_topic(self._app.namespace, name)
            )
        ]
        return [letter for letter in letters if letter is not None]

    async def history(self, job_id: str) -> list[Entry]:
        """What happened to a job, in order, as ``shifter job show`` tells it.

        Each entry has ``at_ms``, ``event`` and further fields by its kind. All jobs are
        recorded, whatever the setting ``events`` is.

        Args:
            job_id: The job's id, in any spelling of a UUID.

        Raises:
            ConfigError: It is no UUID.
        """
        return await self._backend.history(check_job_id("job_id", job_id))

    async def _started(self) -> Worker:
        loop = asyncio.get_running_loop()
        if self._worker is not None:
            if loop is not self._loop:
                raise RuntimeError("a TestApp drains in one event loop only")
            return self._worker
        self._loop = loop
        self._opened.enter_context(virtual_timers(loop))
        self._worker = await self._backend.start(
            self._app.handlers,
            self._app.hours,
            concurrency=self._concurrency,
            seed=self._seed,
        )
        self._worker.drain.replica.highest_load = self._load
        return self._worker

    async def _stopped(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._backend.stop(worker)

    def _open(self) -> None:
        self._backend.create_topics(self._app.queues)
        for job in self._app.jobs.values():
            job.calls.clear()
        served = self._app.served_by(self._backend.publisher, self._backend.claims)
        self._opened.enter_context(served)
        self.auto()
        self._opened.callback(self.auto)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._stopped()
        finally:
            self._opened.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            loop = self._loop
            if loop is not None and not loop.is_closed() and not loop.is_running():
                loop.run_until_complete(self._stopped())
        finally:
            self._opened.close()


OpenApp: TypeAlias = Callable[..., TestApp]
"""Type of the pytest fixture ``shifter_app``: takes what `TestApp` takes."""
