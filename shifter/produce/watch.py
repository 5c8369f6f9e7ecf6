"""Watches the lanes and the dependencies of a service, so that decisions need not wait.

Both watches run on one background loop: a service whose own loop is busy keeps a fresh
view, and a slow log slows no request down. Decisions and calls only look, and note.

`LaneWatch` counts what waits for a slot, not what runs, nor what finds a worker's slot
free. While log or state store are away, its view grows old and after a while answers
``None``, which means "defer". `DependencyWatch` keeps the state of the dependencies in
step with the fleet, and collects the evidence of the service's own calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Final, NamedTuple

import msgspec

from shifter.errors import ConfigError, StoreError
from shifter.fleet.calls import CALLER, ROLE, ActiveCall, Caller, TimeLimit, verdict_of
from shifter.fleet.guards import LimitGuard
from shifter.fleet.protection import DependencyProtection
from shifter.fleet.replica import FleetReplica
from shifter.fleet.service_reports import ServiceReport
from shifter.fleet.shared_state import ProcessReport
from shifter.fleet.sync import FleetSync
from shifter.jobs.request_scope import ambient
from shifter.model.answer import Quality
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.policy.admission.input import WELL, DependencyNeeds, Verdict
from shifter.policy.admission.lane_outlook import LaneFacts, next_rate
from shifter.policy.protection.budget import URGENT_FIRST
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.protection.fleet_pace import presence_every_s
from shifter.ports import (
    Clock,
    FleetStore,
    LaneDepth,
    LogAdmin,
    PresenceStore,
    WorkerReport,
)
from shifter.produce.admission import NOTHING, Admission
from shifter.runtime.threads import BackgroundLoop, stopped_within, until_stopped

_AGAIN_S: Final = 1.0
"""Before a state store that could not be opened is opened again."""
_FULL: Final = Quality.FULL


def watching(lanes: LaneWatch | None, dependencies: DependencyWatch) -> BackgroundLoop:
    """Run the watches of a service on one background loop, which is started."""
    first = [] if lanes is None else [lanes.run]
    mains = [*first, dependencies.run, *map(until_stopped, dependencies.background)]
    loop = BackgroundLoop(*mains, name="shifter-watch")
    loop.start()
    return loop


class _View(NamedTuple):
    """What a job calls, if anything, and its limit where that keeps calls back."""

    spec: JobSpec
    protection: DependencyProtection | None
    gate: LimitGuard | None


class DependencyWatch:
    """The dependencies of one service process. Safe to share between threads.

    Args:
        replica: What is known.
        open_store: Opens where the fleet agrees; called on the loop.
        uses: What a job calls, if anything.
        clock: Monotonic.

    Attributes:
        replica: As given.
        held_back: Called with each refused call.
        background: What runs beside the syncs, whether there is a store or not.
    """

    def __init__(
        self,
        replica: FleetReplica,
        open_store: Callable[[], FleetStore],
        uses: Callable[[JobSpec], Dependency | None],
        clock: Clock,
    ) -> None:
        self.replica, self._open, self._uses = replica, open_store, uses
        self.held_back: Callable[[Dependency, Protection], None] = lambda *_: None
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._clock, self._views = clock, dict[str, _View]()

    def report_on(
        self,
        admission: Admission,
        service: Callable[[], ServiceReport] = ServiceReport,
    ) -> None:
        """Report to the fleet how busy the process is, and what it answered."""

        def answers() -> ProcessReport:
            return msgspec.structs.replace(_shed(admission), service=service())

        self.replica.load, self.replica.answers = admission.load, answers

    async def look(self, store: FleetStore) -> None:
        """Sync once, instead of starting; a store that does not answer is ignored."""
        await FleetSync(self.replica, store, self._clock).once()

    @property
    def caller(self) -> Caller:
        """In whose name the handler or the request under way calls."""
        priority = ambient().priority
        return self._caller(Priority.NORMAL if priority is None else priority)

    def needs(
        self,
        spec: JobSpec,
        priority: Priority,
        is_extra: bool,  # noqa: FBT001  # a callback
    ) -> DependencyNeeds:
        """The state of a job's dependency, for the decision; takes no permit.

        A lock is taken only where the dependency is not calm: most decisions find a
        closed circuit, full quality and room.

        Args:
            spec: The job.
            priority: Priority of the call.
            is_extra: Whether the call is a retry, a replay or a hedge.
        """
        quality, (_, protection, gate) = self.replica.quality, self._view(spec)
        if protection is None:
            return WELL if quality is _FULL else DependencyNeeds(quality=quality)
        has_room = gate is None or gate.has_room(priority)
        if (
            has_room
            and quality is _FULL
            and not is_extra
            and protection.breaker.is_calm
        ):
            return WELL
        now_ms = self.replica.now_ms()
        with self.replica.lock:
            shut_ms = protection.shut_for_ms(now_ms)
            has_budget = not (is_extra and protection.retries.is_exhausted(now_ms))
        reopen_s = None if shut_ms is None else shut_ms / 1_000
        return DependencyNeeds(
            shut_ms is not None, has_room, has_budget, quality, reopen_s
        )

    def calling(
        self, spec: JobSpec, priority: Priority, *, is_fallback: bool = False
    ) -> AbstractContextManager[None]:
        """A block that runs a job; its end is evidence about the job's dependency.

        Args:
            spec: The job's.
            priority: Of its calls.
            is_fallback: Whether the fallback runs: it spares the job's dependency.
        """
        if not self.replica.protections:
            return NOTHING
        now_ms, caller = self.replica.now_ms(), self._caller(priority)
        caller.limit = TimeLimit(now_ms, now_ms + spec.timeout_ms)
        protection = None if is_fallback else self._view(spec).protection
        if protection is None:
            return _InNameOf(caller)
        begun = caller.begin(protection.dependency.name)
        caller.holds = protection.dependency.name
        return _InNameOf(caller, begun if isinstance(begun, ActiveCall) else None)

    def serving(self, priority: Priority) -> AbstractContextManager[None]:
        """A block that serves a request which is no job."""
        if not self.replica.protections:
            return NOTHING
        return _InNameOf(self._caller(priority))

    def _caller(self, priority: Priority) -> Caller:
        role = ROLE.get()
        if role is None:
            is_retry = ambient().is_retry
            return Caller(
                self.replica, priority, is_extra=is_retry, refused=self.held_back
            )
        return Caller(
            self.replica,
            role.priority,
            is_extra=role.is_extra,
            holds=role.holds,
            refused=self.held_back,
            watch=role.watch,
        )

    def _view(self, spec: JobSpec) -> _View:
        """The view of a job's dependency, looked up once."""
        known = self._views.get(spec.name)
        if known is not None and known.spec is spec:
            return known
        dependency, view = self._uses(spec), _View(spec, None, None)
        if dependency is not None:
            protection = self.replica.protections[dependency.name]
            is_dark = Protection.LIMIT in dependency.dark
            view = _View(spec, protection, None if is_dark else protection.limit)
        self._views[spec.name] = view
        return view

    async def run(self, stopped: asyncio.Event) -> None:
        """Sync with the fleet until ``stopped`` is set; see `BackgroundLoop`."""
        store: FleetStore | None = None
        while store is None and not stopped.is_set():
            try:
                store = self._open()
            except (StoreError, ConfigError):
                # Meanwhile the process decides by its own evidence.
                await stopped_within(stopped, _AGAIN_S)
        if store is None:
            return
        async with asyncio.TaskGroup() as group:
            syncing = group.create_task(
                FleetSync(self.replica, store, self._clock).run()
            )
            await stopped.wait()
            syncing.cancel()
        with contextlib.suppress(StoreError):
            await store.close()


class _InNameOf(AbstractContextManager[None]):
    """Calls inside the block are this caller's; what leaves it cuts those under way.

    A class, since each request enters one and a generator takes three times as long.

    Args:
        caller: On behalf of which the calls are made.
        own: The call that the whole block is, if it is one.
    """

    __slots__ = ("_before", "_caller", "_own")

    def __init__(self, caller: Caller, own: ActiveCall | None = None) -> None:
        self._caller, self._own = caller, own
        self._before: Caller | None = None

    def __enter__(self) -> None:
        self._before = CALLER.get()
        CALLER.set(self._caller)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        ended: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # No token: a stream may be closed in another context than it was begun in.
        CALLER.set(self._before)
        if self._own is not None:
            verdict = verdict_of(ended, self._own.protection.dependency)
            self._caller.end(self._own, verdict)
        if ended is not None:
            self._caller.cut()


def _shed(admission: Admission) -> ProcessReport:
    counts = dict.fromkeys(URGENT_FIRST, 0)
    for tallied in admission.report():
        if tallied.verdict is Verdict.SHED:
            counts[tallied.priority] += tallied.times
    critical, high, normal, low = counts.values()
    shed = (critical, high, normal, low)
    return (
        ProcessReport(would_shed=shed)
        if admission.is_dark
        else ProcessReport(shed=shed)
    )


_OLD_S: Final = 30.0
"""After this age a view is not used: a lane may have filled up meanwhile."""


class LaneSources(NamedTuple):
    """Where a watch looks."""

    admin: LogAdmin
    presence: PresenceStore


class LaneWatch:
    """What is known of lanes. Read from any thread, never waits.

    Args:
        open_sources: Opens what is looked at, and closes it at the end, both on the
            background loop.
        lanes: Names of the lanes.
        clock: Monotonic and wall time.
        every_s: Seconds between two looks beside a small fleet, > 0.

    Attributes:
        pause_s: Until the next look: nothing is new before workers report again.
    """

    def __init__(
        self,
        open_sources: Callable[[], AbstractAsyncContextManager[LaneSources]],
        lanes: Callable[[], Sequence[str]],
        clock: Clock,
        *,
        every_s: float = 1.0,
    ) -> None:
        self._open, self._lanes, self._clock = open_sources, lanes, clock
        self._every_s = self.pause_s = every_s
        self._facts: Mapping[str, LaneFacts] = {}
        self._ready: Mapping[str, int] = {}
        self._own: dict[str, int] = {}
        self._old_at = 0.0

    def facts(self, lane: str) -> LaneFacts | None:
        """The state of a lane; ``None`` when nothing is known, or not any more."""
        found, own = self._facts.get(lane), self._own.get(lane, 0)
        if found is None or self._clock.monotonic() > self._old_at:
            return None
        if own and (own := own - self._ready.get(lane, 0)) > 0:
            return found._replace(waiting=found.waiting + own)
        return found

    def deferred(self, lane: str) -> None:
        """Count a job of this process that the last look has not seen."""
        self._own[lane] = self._own.get(lane, 0) + 1

    async def run(self, stopped: asyncio.Event) -> None:
        """Look at the lanes until ``stopped`` is set; see `BackgroundLoop`."""
        sources: LaneSources | None = None
        async with contextlib.AsyncExitStack() as held:
            while not stopped.is_set():
                try:
                    if sources is None:
                        sources = await held.enter_async_context(self._open())
                    await self.look(sources)
                except (StoreError, ConfigError):
                    # The view grows old meanwhile, which is what it should do.
                    pass
                await stopped_within(stopped, self.pause_s)

    async def look(self, sources: LaneSources) -> None:
        """Look once.

        Raises:
            StoreError: The log or the state store does not answer.
        """
        lanes, own = list(self._lanes()), self._own
        depths = await sources.admin.depths(lanes)
        workers = await sources.presence.workers()
        self.pause_s = self._every_s * presence_every_s(len(workers))
        now_ms, facts, ready = self._clock.epoch_ms(), {}, {}
        for depth in depths:
            before, serving = self._facts.get(depth.topic), _serving(workers, depth)
            line = max(0, depth.waiting - serving.running)
            rate_per_s = next_rate(
                None if before is None else before.rate_per_s,
                serving.rate_per_s,
                waiting=max(0, line - serving.free),
                is_drained=serving.workers > 0,
            )
            oldest_ms = now_ms if depth.oldest_ms is None else depth.oldest_ms
            age_s = max(0, now_ms - oldest_ms) / 1_000
            waiting = max(0, line - serving.free)
            facts[depth.topic] = LaneFacts(waiting, rate_per_s, age_s)
            ready[depth.topic] = max(0, serving.free - line)
        # What was deferred while this look was under way is counted once too few, for
        # one look; counting it twice would refuse work that fits.
        for lane in own:
            own[lane] = 0
        self._facts, self._ready = facts, ready
        self._old_at = self._clock.monotonic() + _OLD_S


class _Serving(NamedTuple):
    workers: int
    running: int
    free: int
    rate_per_s: float


def _serving(workers: Sequence[WorkerReport], depth: LaneDepth) -> _Serving:
    """The workers that ran jobs of the lane of late, and the slots they have left."""
    lane = depth.topic
    mine = [w for w in workers if lane in w.running or lane in w.rate_per_s]
    return _Serving(
        len(mine),
        sum(w.running.get(lane, 0) for w in mine),
        sum(max(0, w.concurrency - sum(w.running.values())) for w in mine),
        sum(w.rate_per_s.get(lane, 0.0) for w in mine),
    )
