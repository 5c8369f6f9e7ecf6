"""The dependencies of a service: their state, and the evidence of its own calls.

Kept in step with the fleet on a thread with a loop of its own; decisions and calls only
look, and note.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, NamedTuple

from shifter.errors import ConfigError, StoreError
from shifter.fleet.calls import (
    CALLER,
    ROLE,
    ActiveCall,
    Caller,
    TimeLimit,
    verdict_of,
)
from shifter.fleet.guards import LimitGuard
from shifter.fleet.protection import DependencyProtection
from shifter.fleet.replica import FleetReplica
from shifter.fleet.report import URGENT_FIRST, ProcessReport
from shifter.fleet.sync import FleetSync
from shifter.jobs.request_scope import ambient
from shifter.model.answer import Quality
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.policy.admission.input import WELL, DependencyNeeds, Verdict
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.ports import Clock, FleetStore
from shifter.produce.admission import Admission
from shifter.produce.loop_thread import LoopThread

_JOIN_S: Final = 5.0
_AGAIN_S: Final = 1.0
_FULL: Final = Quality.FULL


class _View(NamedTuple):
    """What a job calls, if anything, and its limit where that keeps calls back."""

    spec: JobSpec
    protection: DependencyProtection | None
    gate: LimitGuard | None


class DependencyWatch:
    """The dependencies of one service process. Safe to share between threads.

    Args:
        replica: What is known.
        open_store: Opens where the fleet agrees; called on the thread.
        uses: What a job calls, if anything.
        clock: Monotonic.

    Attributes:
        replica: As given.
    """

    def __init__(
        self,
        replica: FleetReplica,
        open_store: Callable[[], FleetStore],
        uses: Callable[[JobSpec], Dependency | None],
        clock: Clock,
    ) -> None:
        self.replica, self._open, self._uses = replica, open_store, uses
        self._clock = clock
        self._views: dict[str, _View] = {}
        self._thread = LoopThread(self._watch, name="shifter-fleet")

    def start(self, admission: Admission) -> None:
        """Begin to tell and to listen.

        Args:
            admission: The process's; the fleet is told how busy it is, and what it
                shed.
        """
        self.replica.load = admission.load
        self.replica.shed = lambda: _shed(admission)
        self._thread.start()

    def stop(self) -> None:
        """End; blocks for as long as a sync takes, a few seconds at most."""
        self._thread.stop(_JOIN_S)

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
        """What the decision should know; takes nothing, and mostly no lock either."""
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
        """A block that runs a job; notes what it says of the job's dependency.

        Args:
            spec: The job's.
            priority: Of its calls.
            is_fallback: Whether the fallback runs: it spares the job's dependency.
        """
        if not self.replica.protections:
            return contextlib.nullcontext()
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
            return contextlib.nullcontext()
        return _InNameOf(self._caller(priority))

    def _caller(self, priority: Priority) -> Caller:
        role = ROLE.get()
        if role is None:
            return Caller(self.replica, priority, is_extra=ambient().is_retry)
        return Caller(
            self.replica,
            role.priority,
            is_extra=role.is_extra,
            holds=role.holds,
            watch=role.watch,
        )

    def _view(self, spec: JobSpec) -> _View:
        """Of a job's dependency, looked up once."""
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

    async def _watch(self, stopped: asyncio.Event) -> None:
        store: FleetStore | None = None
        while store is None and not stopped.is_set():
            try:
                store = self._open()
            except (StoreError, ConfigError):
                # Alone it goes by its own evidence.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), _AGAIN_S)
        if store is None:
            return
        async with asyncio.TaskGroup() as group:
            sync = FleetSync(self.replica, store, self._clock)
            syncing = group.create_task(sync.run())
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
