"""A log, a claim store and a worker in memory, on one virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog, MemoryLogAdmin
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.api.job import Job
from shifter.config import Settings
from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.model.claim import WaitingJobs
from shifter.model.lane import Lane, Priority, events_topic
from shifter.ops.job_history import Entry
from shifter.ops.job_reader import JobReader
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.policy.protection.dependency import Dependency
from shifter.produce.publisher import Publisher
from shifter.telemetry.job_events import JobEventStream
from shifter.telemetry.tracing import Spans
from shifter.testing.clock import FakeClock
from shifter.testing.driver import Clocks, Gate, GatedFeed, HorizonClock, Worker
from shifter.testing.handler import Failures, Handler, HandlerClock, RehearsedJob
from shifter.testing.report import CountingObserver
from shifter.wiring import topic_specs
from shifter.work.drain import Drain
from shifter.work.job_events import WorkerEvents

_NAME: Final = "test-app"
# 100 s of virtual time: attempts that are stopped have a grace time to end.
_CLOSING_ROUNDS: Final = 2_000
_CLOSING_STEP_S: Final = 0.05


class _StatesAtOnce:
    """States of jobs where the claims are in memory: nothing has to be awaited."""

    def __init__(self, claims: MemoryClaimStore) -> None:
        self.add = claims.put_waiting
        self.done_by, self.done_by_sync = claims.done_by, claims.done_now

    def add_plain(self, job_id: str) -> None:
        self.add(WaitingJobs((job_id,), WAITING_KEEP_MS))

    def holds(self, _: str) -> bool:
        return False

    def close(self) -> None:
        """Do nothing: nothing is queued."""


class _EventsAtOnce:
    """The service's side of the stream of events: the drain writes what it queues."""

    def __init__(self, stream: JobEventStream) -> None:
        self.is_all, self.put = stream.is_all, stream.put

    def close(self) -> None:
        """Do nothing: the drain writes."""


class MemoryBackend:
    """The log and the claims in place of servers, and the worker that drains them.

    Attributes:
        settings: The defaults; one partition, so that lanes keep their order.
        clocks: The virtual time.
        log: The log.
        claims: The claim store.
        events: What happens to jobs: all of it, whatever the app's settings are.
        publisher: The accepting side, for the app.
        failures: The planned failures of handlers.
    """

    def __init__(self, namespace: str, *, epoch_ms: int, spans: Spans) -> None:
        self.settings = Settings(namespace=namespace, partitions=1)
        self._spans = spans
        back = FakeClock(epoch_ms)
        self.clocks = Clocks(HandlerClock(epoch_ms), back, HorizonClock(back))
        self.log = MemoryLog(self.clocks.log)
        self.claims = MemoryClaimStore(back)
        self.failures = Failures()
        limit_bytes = self.settings.max_record_bytes
        log = MemoryLaneLog(self.log, max_record_bytes=limit_bytes)
        self.events = JobEventStream(
            log,
            back,
            topic=events_topic(namespace),
            process=_NAME,
            counted=lambda *_: None,
            is_all=True,
        )
        self.publisher = Publisher(
            log,
            back,
            timeout_s=self.settings.accept_timeout_ms / 1_000,
            states=_StatesAtOnce(self.claims),
            spans=spans,
        )

    def create_topics(self, queues: Iterable[str]) -> None:
        """Create the topics of these queues that do not exist."""
        for spec in topic_specs(self.settings, queues):
            self.log.create(spec)

    async def history(self, job_id: str) -> list[Entry]:
        """What happened to a job, in order."""
        await self.events.write()
        admin = MemoryLogAdmin(self.log)
        clock, namespace = self.clocks.back, self.settings.namespace
        reader = JobReader(admin, namespace, clock)
        return (await reader.recorded(job_id)).story

    async def waiting(self, queues: Iterable[str]) -> int:
        """How many jobs wait in the lanes of these queues."""
        lanes = list(self._lanes(queues))
        depths = await MemoryLogAdmin(self.log).depths(lanes)
        return sum(depth.waiting + (depth.delayed or 0) for depth in depths)

    async def start(
        self,
        jobs: Mapping[str, Job[..., Any]],
        hours: Hours,
        *,
        concurrency: int,
        seed: int,
    ) -> Worker:
        """Start a worker; it does nothing before its gate is opened.

        Args:
            jobs: The jobs of the app, by name and alias.
            hours: Windows of the lanes, and what the test set by hand.
            concurrency: Attempts at once.
            seed: Of the worker's random draws.
        """
        lanes = self._lanes({job.spec.queue for job in jobs.values()})
        gate, tally = Gate(), CountingObserver(self.clocks.back, worker=_NAME)
        tally.events = WorkerEvents(self.events, self.clocks.back)
        handlers: dict[asyncio.Task[Any], Handler] = {}
        feeds = {
            priority: GatedFeed(self.log, _served(lanes, priority), gate)
            for priority in Priority
        }
        drain = Drain(
            owner=_NAME,
            concurrency=concurrency,
            lease_ms=self.settings.lease_ms,
            seed=seed,
            feeds=feeds,
            lanes=lanes,
            jobs={
                name: RehearsedJob(job, self.clocks.front, self.failures, handlers)
                for name, job in jobs.items()
            },
            claims=self.claims,
            clock=self.clocks.back,
            observer=tally,
            replica=FleetReplica(
                _dependencies(jobs.values()),
                self.clocks.back,
                process=_NAME,
                observer=tally,
                seed=seed,
            ),
            spans=self._spans,
            hours=hours,
            mover=self.log,
        )
        for feed in feeds.values():
            await feed.open()
        # Owned by `stop`: a task group would have to be left in the task that made it,
        # which test frameworks do not promise.
        task = asyncio.get_running_loop().create_task(drain.run(drain_timeout_s=0.0))
        return Worker(drain, task, self.log, gate, tally, handlers)

    async def stop(self, worker: Worker) -> None:
        """Stop a worker and the attempts that it still runs."""
        worker.drain.stop()
        for _ in range(_CLOSING_ROUNDS):
            if worker.task.done():
                break
            self.clocks.move(_CLOSING_STEP_S)
            await asyncio.sleep(0)
        worker.task.cancel()
        await asyncio.wait([worker.task])

    def _lanes(self, queues: Iterable[str]) -> dict[str, Lane]:
        lanes = [
            Lane(self.settings.namespace, queue, priority)
            for queue in sorted(queues)
            for priority in Priority
        ]
        return {lane.name: lane for lane in lanes}


def _served(lanes: Mapping[str, Lane], priority: Priority) -> list[str]:
    return [name for name, lane in lanes.items() if lane.priority is priority]


def _dependencies(jobs: Iterable[Job[..., Any]]) -> Iterable[Dependency]:
    """The dependencies of the apps of these jobs: a handler may call any of them."""
    apps = {id(job.app): job.app for job in jobs}
    return [found for app in apps.values() for found in app.dependencies.values()]
