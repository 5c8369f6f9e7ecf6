"""A whole worker over the memory adapters, for tests of the drain."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from shifter import Deferred, Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed, MemoryLaneLog, MemoryLogAdmin
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.fleet.replica import FleetReplica
from shifter.model.claim import JobState, JobStatus
from shifter.model.lane import Lane, Priority, dead_letter_topic
from shifter.ports import Delivery
from shifter.produce.publisher import Publisher
from shifter.telemetry import WorkerMetrics
from shifter.telemetry.tracing import UNTRACED, Spans
from shifter.wiring import topic_specs
from shifter.work.drain import Drain
from shifter.work.job_observer import JobObserver


class World:
    """An app, a log, a claim store, and drains to be started over them."""

    def __init__(self, namespace: str = "shop", spans: Spans = UNTRACED) -> None:
        self.clock = SystemClock()
        self.settings = Settings(namespace=namespace)
        self.app = Shifter(namespace, settings=self.settings)
        self.log = MemoryLog(self.clock)
        self.lane_log = MemoryLaneLog(self.log)
        self.claims = MemoryClaimStore(self.clock)
        self.spans, self.appends = spans, list[float]()
        self.publisher = Publisher(
            self.lane_log,
            self.clock,
            timeout_s=5,
            appended=lambda _lane, _answers, took_s: self.appends.append(took_s),
            spans=spans,
        )
        self.app._publisher = self.publisher
        self.metrics = WorkerMetrics()

    async def open(self) -> None:
        """Make the topics of all jobs registered so far."""
        admin = MemoryLogAdmin(self.log)
        await admin.apply(topic_specs(self.settings, self.app.queues or ["default"]))

    def narrow(self, topic: str, max_record_bytes: int) -> None:
        """Let a topic take no larger records, as an operator might."""
        spec = self.log._specs[topic]
        self.log._specs[topic] = spec._replace(max_record_bytes=max_record_bytes)

    def drain(self, *, concurrency: int = 10, owner: str = "w1", **more: Any) -> Drain:
        """A drain over all lanes of the app."""
        lanes = {
            lane.name: lane
            for queue in self.app.queues
            for lane in (Lane(self.app.namespace, queue, p) for p in Priority)
        }
        feeds = {
            priority: MemoryLaneFeed(
                self.log, [n for n, lane in lanes.items() if lane.priority is priority]
            )
            for priority in Priority
        }
        observer = JobObserver(
            self.metrics, self.clock, worker=owner, log_done=more.get("log_done")
        )
        return Drain(
            owner=owner,
            concurrency=concurrency,
            lease_ms=more.get("lease_ms", 5_000),
            seed=1,
            feeds=more.get("feeds", feeds),
            lanes=lanes,
            jobs=self.app.handlers,
            claims=more.get("claims", self.claims),
            clock=self.clock,
            spans=self.spans,
            processes=more.get("processes"),
            grace_ms=more.get("grace_ms", 900_000),
            hours=more.get("hours"),
            reports=more.get("reports"),
            pace=more.get("pace", "off"),
            observer=observer,
            replica=FleetReplica(
                self.app.dependencies.values(),
                self.clock,
                process=owner,
                observer=observer,
                seed=1,
            ),
        )

    @contextlib.asynccontextmanager
    async def working(self, **options: Any) -> AsyncGenerator[Drain]:
        """Run one drain while the block runs, then stop it in order."""
        drain = self.drain(**options)
        feeds = list(drain.feeds.values())
        for feed in feeds:
            await feed.open()
        async with asyncio.TaskGroup() as group:
            timeout_s = options.get("drain_timeout_s", 5.0)
            task = group.create_task(drain.run(drain_timeout_s=timeout_s))
            yield drain
            drain.stop()
            await task
        for feed in feeds:
            await feed.close(timeout_s=1)

    async def until(self, check: Callable[[], bool], *, timeout_s: float = 40) -> None:
        """Wait until something holds, looking again at each turn of the loop."""
        async with asyncio.timeout(timeout_s):
            while not check():
                await asyncio.sleep(0.001)

    async def state(self, job_id: str) -> JobState | None:
        """A job's state, as the claim store knows it."""
        status: JobStatus | None = await self.claims.status(job_id)
        return None if status is None else status.state

    async def ended(
        self, job_id: str, state: JobState, *, timeout_s: float = 40
    ) -> None:
        """Wait until a job is in this state."""
        async with asyncio.timeout(timeout_s):
            while await self.state(job_id) is not state:
                await asyncio.sleep(0.001)

    async def until_terminal(self, job_id: str, *, timeout_s: float = 40) -> JobState:
        """Wait until a job has ended, and say how."""
        async with asyncio.timeout(timeout_s):
            while (state := await self.state(job_id)) is None or not state.is_terminal:
                await asyncio.sleep(0.001)
        return state

    async def dead_letters(self, queue: str = "default") -> list[Delivery]:
        """All dead letters of a queue."""
        topic = dead_letter_topic(self.app.namespace, queue)
        admin = MemoryLogAdmin(self.log)
        return [one async for batch in admin.scan(topic) for one in batch]


async def submit(job: Any, *args: Any, **kwargs: Any) -> str:
    """Defer a job that is certainly accepted; its id."""
    answer = await job.defer(*args, **kwargs)
    assert isinstance(answer, Deferred)
    return answer.job_id
