"""One member of a fleet that is played: its replica, its syncs and its calls, all timed."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

from benchmarks.fleet_history import Call, Plan, Told, Turn
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.system import SystemClock
from shifter.fleet.changes import Change
from shifter.fleet.guards import CallPermit
from shifter.fleet.protection import DependencyProtection
from shifter.fleet.replica import FleetReplica, SentReport as Asked
from shifter.fleet.shared_state import state_word
from shifter.fleet.sync import FleetSync
from shifter.model.fleet import FleetReport, FleetView
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock, FleetStore

_TICK_S = 0.005
_QUEUE_MOST = 400


class _TimedStore:
    """A store whose answers are timed."""

    def __init__(self, store: FleetStore) -> None:
        self._store, self.took_ms = store, list[float]()

    async def sync(self, report: FleetReport) -> FleetView:
        """As the store's."""
        begin = time.perf_counter()
        view = await self._store.sync(report)
        self.took_ms.append((time.perf_counter() - begin) * 1_000)
        return view

    async def listen(self, changed: Callable[[], None]) -> None:
        """As the store's."""
        await self._store.listen(changed)

    async def close(self) -> None:
        """As the store's."""
        await self._store.close()


class _TimedReplica(FleetReplica):
    """A replica whose part of each sync is timed, by the processor's clock."""

    def __init__(self, *dependencies: Any, **options: Any) -> None:
        super().__init__(*dependencies, **options)
        self.cost_ms, self._began = list[float](), 0.0

    def report(self) -> Asked:
        """As usual."""
        self._began = time.thread_time()
        told = super().report()
        self._began -= time.thread_time()
        return told

    def learn(self, told: Asked, view: FleetView) -> None:
        """As usual."""
        began = time.thread_time()
        super().learn(told, view)
        took_s = time.thread_time() - began - self._began
        self.cost_ms.append(took_s * 1_000)


class _TimedSync(FleetSync):
    """Syncs that are timed whole."""

    def __init__(self, replica: FleetReplica, store: FleetStore, clock: Clock) -> None:
        super().__init__(replica, store, clock)
        self.took_ms = list[float]()

    async def once(self) -> None:
        """As usual."""
        begin = time.perf_counter()
        await super().once()
        self.took_ms.append((time.perf_counter() - begin) * 1_000)


class _UnderWay(NamedTuple):
    """A call: when it ends, which attempt, what let it through, whether it fails."""

    until: float
    attempt: int
    protection: DependencyProtection
    permit: CallPermit | None
    fails: bool


class _Caller:
    def __init__(self, plan: Plan, replica: FleetReplica, seed: int) -> None:
        self._plan, self._replica = plan, replica
        self._protections: list[DependencyProtection] = list(
            replica.protections.values()
        )
        self._random = random.Random(seed)
        self._later: list[tuple[float, int, int, DependencyProtection]] = []
        self._under_way: list[_UnderWay] = []
        self._number = count()
        self.calls: list[Call] = []
        self.took_us: list[float] = []

    async def run(self, start_at: float) -> None:
        """Call at the plan's rate until its end."""
        plan = self._plan
        per_tick = plan.per_s / (plan.processes * plan.workers) * _TICK_S
        owed = self._random.random()
        await asyncio.sleep(max(0.0, start_at - time.time()))
        # One origin for all: who wakes up late must not see the plan late.
        begin = time.monotonic() - (time.time() - start_at)
        while (now := time.monotonic() - begin) < plan.seconds:
            owed += per_tick
            while owed >= 1:
                owed -= 1
                self._ask(now, 1, self._random.choice(self._protections))
            while self._later and self._later[0][0] <= now:
                _, _, attempt, protection = heapq.heappop(self._later)
                self._ask(now, attempt, protection)
            ended = [c for c in self._under_way if c[0] <= now]
            for end in ended:
                self._end(now, end)
            self._under_way = [c for c in self._under_way if c[0] > now]
            next_at = begin + (int(now / _TICK_S) + 1) * _TICK_S
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    def _ask(self, now: float, attempt: int, protection: DependencyProtection) -> None:
        permit: CallPermit | None = None
        if not self._plan.is_naive:
            begin = time.perf_counter_ns()
            with self._replica.lock:
                answer = protection.admit(
                    Priority.NORMAL,
                    is_extra=attempt > 1,
                    now_ms=int(time.monotonic() * 1_000),
                )
            self.took_us.append((time.perf_counter_ns() - begin) / 1_000)
            if not isinstance(answer, CallPermit):
                if len(self._later) < _QUEUE_MOST:
                    self._put(now + answer.wait_ms / 1_000, attempt, protection)
                return
            permit = answer
        is_probe = permit is not None and permit.is_probe
        self.calls.append(Call(now, attempt > 1, is_probe))
        is_down = any(begin <= now < end for begin, end in self._plan.down)
        fails = is_down or self._random.random() < self._plan.fail_ratio
        until = now + self._plan.took_s
        self._under_way.append(_UnderWay(until, attempt, protection, permit, fails))

    def _end(self, now: float, call: _UnderWay) -> None:
        _, attempt, protection, permit, fails = call
        plan = self._plan
        if permit is not None:
            outcome = CallOutcome.FAILURE if fails else CallOutcome.SUCCESS
            end = CallEnd(outcome, int(self._plan.took_s * 1_000))
            with self._replica.lock:
                now_ms = int(time.monotonic() * 1_000)
                changed = protection.ended(permit, end, now_ms=now_ms)
            if changed or protection.circuit.is_urgent:
                self._replica.urge(protection if changed else None)
        has_room = plan.is_naive or len(self._later) < _QUEUE_MOST
        if fails and attempt < plan.attempts and has_room:
            self._put(now + self._random.uniform(0.05, 0.2), attempt + 1, protection)

    def _put(self, at: float, attempt: int, protection: DependencyProtection) -> None:
        heapq.heappush(self._later, (at, next(self._number), attempt, protection))


class Member:
    """One member of the fleet: a replica, its syncs and its calls."""

    def __init__(
        self, plan: Plan, dependency: Dependency, number: int, start_at: float
    ) -> None:
        self._plan, self._start_at = plan, start_at
        self._name, clock = f"m{number}", SystemClock()
        client = open_redis(plan.redis_url, timeout_s=1.0)
        self._store = _TimedStore(RedisFleetStore(client, plan.namespace))
        names = (
            dependency.name + (str(n) if n else "") for n in range(plan.dependencies)
        )
        dependencies = [replace(dependency, name=name) for name in names]
        self._replica = replica = _TimedReplica(
            dependencies, clock, process=self._name, observer=self, seed=number
        )
        self._sync = _TimedSync(replica, self._store, clock)
        self._caller = _Caller(plan, replica, number)
        self._turns: list[Turn] = []

    def circuit_changed(self, change: Change) -> None:
        """Write it down."""
        if change.is_fleet:
            state, at_s = change.state, time.time() - self._start_at
            self._turns.append(
                Turn(at_s, self._name, state.generation, state_word(state))
            )

    def found_strange(self, count: int) -> None:
        """Do nothing: no process of this fleet reports a bad value."""

    async def live(self, told: Told) -> None:
        """Call by the plan, and write down what happened."""
        async with asyncio.TaskGroup() as group:
            syncing = group.create_task(self._sync.run())
            await self._caller.run(self._start_at)
            syncing.cancel()
        await self._store.close()
        told.calls += self._caller.calls
        told.decision_us += self._caller.took_us
        told.sync_ms += self._sync.took_ms
        told.round_trip_ms += self._store.took_ms
        told.cost_ms += self._replica.cost_ms
        told.turns += self._turns
