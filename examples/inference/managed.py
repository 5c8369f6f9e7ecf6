"""The same arrivals through shifter itself, in virtual time.

A service submits every request: the decision, the log's and the claims' rules, the
drain's choices and the workers' deadlines are the code that runs in production, on the
memory adapters. Two workers drain what was deferred, one for each priority. All of them
call one backend, whose slots are its limit; ``LOW`` may fill three quarters of it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, NamedTuple

from examples.inference.history import Asked, Check, Decided, Started, check
from examples.inference.rivals import Served
from examples.inference.trace import IN_TIME_S, PRIORITIES, Arrival, service_s
from examples.inference.virtual import VirtualClock, VirtualLoop
from shifter import (
    Context,
    Deferred,
    Degraded,
    Discard,
    Job,
    Priority,
    Ran,
    Shed,
    Shifter,
)
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed, MemoryLaneLog, MemoryLogAdmin
from shifter.adapters.memory.state import MemoryClaimStore, MemoryPresenceStore
from shifter.config import Settings
from shifter.fleet.replica import FleetReplica
from shifter.model.job import JobSpec
from shifter.model.lane import Lane
from shifter.policy.admission.input import Decision, DependencyNeeds
from shifter.policy.admission.shares import SLOT_SHARES
from shifter.produce.admission import Views
from shifter.produce.options import CallPlan
from shifter.produce.publisher import Publisher
from shifter.produce.watch import LaneSources, LaneWatch
from shifter.telemetry import WorkerMetrics
from shifter.wiring import every_lane, topic_specs
from shifter.work.drain import Drain
from shifter.work.heartbeat import report_presence
from shifter.work.job_observer import JobObserver

_NAME: Final = "inference"
_CHEAP: Final = 0.25
"""Share of the work that the cheaper answer to a completion takes."""


class Backend:
    """A fixed number of slots; who waits is let in by priority, then by arrival.

    Args:
        slots: How many there are.
        clock: Virtual time.
    """

    def __init__(self, slots: int, clock: VirtualClock) -> None:
        self._clock, self.busy = clock, 0
        self.urgent = 0
        self._limits = {p: max(1, int(slots * SLOT_SHARES[p.rank])) for p in Priority}
        self._line: list[tuple[int, int, Priority, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def needs(self, _: JobSpec, priority: Priority, *__: bool) -> DependencyNeeds:
        """What the decision is told: whether there is room for this priority."""
        return DependencyNeeds(has_room=self._has_room(priority))

    async def serve(
        self, priority: Priority, seconds: float, *, patience_s: float
    ) -> tuple[float, float, float]:
        """Keep a slot busy; returns when it began and ended.

        Raises:
            TimeoutError: There was none within the patience.
        """
        if self._has_room(priority):
            self.busy += 1
        else:
            async with asyncio.timeout(max(0.0, patience_s)):
                await self._wait(priority)
        began_at, is_urgent = self._clock.monotonic(), priority is not Priority.LOW
        self.urgent += is_urgent
        try:
            await self._clock.sleep(seconds)
        finally:
            self.urgent -= is_urgent
            self.busy -= 1
            self._let_in()
        return began_at, self._clock.monotonic(), 1.0

    def _has_room(self, priority: Priority) -> bool:
        return self.busy < self._limits[priority]

    async def _wait(self, priority: Priority) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (-priority.rank, next(self._numbers), priority, turn)
        heapq.heappush(self._line, entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.busy -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._line and (
            self._line[0][3].done() or self._has_room(self._line[0][2])
        ):
            *_, turn = heapq.heappop(self._line)
            if not turn.done():
                self.busy += 1
                turn.set_result(None)


class Managed(NamedTuple):
    """A run's result.

    Attributes:
        served: What became of each request.
        history: Every decision, in order.
        checks: What must hold of it, and whether it does.
        report: Decisions by priority, verdict and reason.
    """

    served: list[Served]
    history: list[Decided]
    checks: dict[str, Check]
    report: Counter[tuple[str, str, str]]


def managed(arrivals: Sequence[Arrival], slots: int, pace: str = "on") -> Managed:
    """Play the arrivals; an hour takes about a minute.

    Args:
        arrivals: The requests.
        slots: Of the backend.
        pace: Of LOW jobs, as the setting ``pace``. The workers are told how many slots
            of the backend HIGH jobs use, since most of those run in the service.
    """
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_Play(slots, VirtualClock(loop), pace).run(arrivals))


class _Play:
    def __init__(self, slots: int, clock: VirtualClock, pace: str) -> None:
        self._slots, self._clock, self._pace = slots, clock, pace
        self._settings = Settings(namespace=_NAME, partitions=1, concurrency=10_000)
        self._backend = Backend(slots, clock)
        self._log = MemoryLog(clock)
        self._claims = MemoryClaimStore(clock)
        self._presence = MemoryPresenceStore(clock)
        self._spans: dict[int, tuple[float, float, float]] = {}
        self._history: list[Decided] = []
        self._asked: dict[int, Asked] = {}
        self._started: list[Started] = []
        self._answers: dict[int, tuple[str, str]] = {}
        self.app = Shifter(_NAME, settings=self._settings)
        self._jobs = self._declare()

    def _declare(self) -> dict[str, Job[..., Any]]:
        # A deadline is when an answer must be there; who cannot make it gives up.
        async def serve(name: str, ctx: Context, number: int, seconds: float) -> None:
            self._started.append(Started(number, self._clock.monotonic()))
            patience_s = ctx.remaining_s - seconds
            try:
                self._spans[number] = await self._backend.serve(
                    PRIORITIES[name], seconds, patience_s=patience_s
                )
            except TimeoutError:
                raise Discard("no slot in time to be of use") from None

        @self.app.job(priority=PRIORITIES["converse"], timeout="1h")
        async def converse(ctx: Context, number: int, read: int, written: int) -> None:
            await serve("converse", ctx, number, service_s(read, written))

        @self.app.job(priority=PRIORITIES["complete"], timeout="1h")
        async def complete(ctx: Context, number: int, read: int, written: int) -> None:
            await serve("complete", ctx, number, service_s(read, written))

        @complete.fallback
        async def complete_cheaply(
            ctx: Context, number: int, read: int, written: int
        ) -> None:
            seconds = _CHEAP * service_s(read, written)
            await serve("complete", ctx, number, seconds)

        return {"converse": converse, "complete": complete}

    async def run(self, arrivals: Sequence[Arrival]) -> Managed:
        for spec in topic_specs(self._settings, ["default"]):
            self._log.create(spec)
        publisher = Publisher(MemoryLaneLog(self._log), self._clock, timeout_s=10.0)
        with self.app.served_by(publisher, self._claims):
            async with self._fleet():
                await self._offer(arrivals)
                await self._drained()
        served = [
            self._served(number, arrival) for number, arrival in enumerate(arrivals)
        ]
        report = Counter(
            (PRIORITIES[s.arrival.job].value, s.answer, s.reason) for s in served
        )
        checks = check(self._asked, self._started, self._history)
        return Managed(served, self._history, checks, report)

    async def _offer(self, arrivals: Sequence[Arrival]) -> None:
        async with asyncio.TaskGroup() as group:
            for number, arrival in enumerate(arrivals):
                left_s = arrival.at_s - self._clock.monotonic()
                if left_s > 0:
                    await self._clock.sleep(left_s)
                group.create_task(self._submit(number, arrival))

    async def _submit(self, number: int, arrival: Arrival) -> None:
        deadline_s = IN_TIME_S[arrival.job] + arrival.service_s
        call = self._jobs[arrival.job].options(deadline=deadline_s)
        now = self._clock.monotonic()
        self._asked[number] = Asked(now, now + deadline_s)
        try:
            answer = await call.submit(
                number=number,
                read=arrival.context_tokens,
                written=arrival.generated_tokens,
            )
        except Discard as discard:
            self._answers[number] = "expired", discard.reason
        else:
            word = _WORDS[type(answer)]
            self._answers[number] = word, answer.reason.value

    @asynccontextmanager
    async def _fleet(self) -> AsyncGenerator[None]:
        """Two workers, and the view of the lanes."""
        drains = [
            self._drain(Priority.HIGH, concurrency=10 * self._slots),
            self._drain(Priority.LOW, concurrency=self._slots),
        ]
        watch = LaneWatch(
            lambda: nullcontext(LaneSources(MemoryLogAdmin(self._log), self._presence)),
            lambda: every_lane(_NAME, ["default"]),
            self._clock,
        )
        self.app.admission.views = Views(watch, self._backend.needs)
        self.app.admission.on_decision = self._hear
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._look(watch))]
            for drain in drains:
                for feed in drain.feeds.values():
                    await feed.open()
                group.create_task(drain.run(drain_timeout_s=0.0))
                reports = report_presence(self._presence, drain)
                helpers.append(group.create_task(reports))
            yield
            for drain in drains:
                drain.stop()
            for helper in helpers:
                helper.cancel()

    def _drain(self, priority: Priority, *, concurrency: int) -> Drain:
        lane, name = Lane(_NAME, "default", priority), priority.value
        observer = JobObserver(WorkerMetrics(), self._clock, worker=name)
        return Drain(
            owner=name,
            concurrency=concurrency,
            lease_ms=self._settings.lease_ms,
            seed=7,
            feeds={priority: MemoryLaneFeed(self._log, [lane.name])},
            lanes={lane.name: lane},
            jobs=self.app.jobs,
            claims=self._claims,
            clock=self._clock,
            observer=observer,
            pace=self._pace,
            urgent=lambda: self._backend.urgent,
            replica=FleetReplica(
                self.app.dependencies.values(),
                self._clock,
                process=name,
                observer=observer,
                seed=7,
            ),
        )

    async def _look(self, watch: LaneWatch) -> None:
        sources = LaneSources(MemoryLogAdmin(self._log), self._presence)
        while True:
            await watch.look(sources)
            await self._clock.sleep(1.0)

    async def _drained(self) -> None:
        admin, lanes = MemoryLogAdmin(self._log), every_lane(_NAME, ["default"])
        while any(depth.waiting for depth in await admin.depths(lanes)):
            await self._clock.sleep(5.0)

    def _hear(self, window: int, plan: CallPlan, decision: Decision) -> None:
        self._history.append(
            Decided(
                window,
                plan.priority.rank,
                decision.verdict.value,
                decision.reason.value,
            )
        )

    def _served(self, number: int, arrival: Arrival) -> Served:
        answer, reason = self._answers[number]
        span = self._spans.get(number)
        if span is None:
            gone = "shed" if answer == "shed" else "expired"
            return Served(arrival, None, (), gone, reason)
        return Served(arrival, span[0] - arrival.at_s, (span,), answer, reason)


_WORDS: Final = {Ran: "ran", Deferred: "deferred", Degraded: "degraded", Shed: "shed"}
