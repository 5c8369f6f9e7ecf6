"""Processes of a fleet that call one dependency, which fails by plan and counts.

The dependency is no server: each process writes down when each of its calls began, as
the dependency would have seen it, and a call's fate is read from the plan. So thousands
of calls a second are counted exactly, and what is measured is the fleet.
"""

from __future__ import annotations

import asyncio
import heapq
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.system import SystemClock
from shifter.fleet.board import FleetBoard, Told as Asked
from shifter.fleet.breaker import Leave
from shifter.fleet.cells import state_word
from shifter.fleet.change import Change
from shifter.fleet.shield import Shield
from shifter.fleet.sync import FleetSync
from shifter.model.fleet import FleetReport, FleetView
from shifter.model.priority import Priority
from shifter.policy.dependency import Dependency
from shifter.policy.evidence import CallOutcome
from shifter.policy.guard import CallEnd
from shifter.ports import Clock, FleetStore

_TICK_S = 0.005
_QUEUE_MOST = 400


class Plan(msgspec.Struct, frozen=True):
    """What is played.

    Attributes:
        redis_url: Where the fleet agrees.
        namespace: Of the fleet.
        processes: How many.
        per_s: First attempts a second, of all of them together.
        seconds: How long.
        down: Seconds from and to which every call fails.
        fail_ratio: Share of calls that fail all the time.
        took_s: How long a call takes.
        is_naive: Retry whatever comes, without asking anybody.
        attempts: Most attempts of one job; layers that each retry multiply theirs.
        dependencies: How many there are; calls are spread over them.
        workers: Members of the fleet in each process; a process for each costs more.
    """

    redis_url: str
    namespace: str
    processes: int = 8
    per_s: float = 5_000
    seconds: float = 20.0
    down: Sequence[tuple[float, float]] = ()
    fail_ratio: float = 0.0
    took_s: float = 0.02
    is_naive: bool = False
    attempts: int = 4
    dependencies: int = 1
    workers: int = 1


class Call(msgspec.Struct, array_like=True):
    """One call as the dependency saw it: seconds since the start, retry, probe."""

    at_s: float
    is_extra: bool
    is_probe: bool


class Turn(msgspec.Struct, array_like=True):
    """A member learnt that the fleet's circuit changed."""

    at_s: float
    member: str
    generation: int
    state: str


class Told(msgspec.Struct):
    """What one process wrote down.

    Attributes:
        calls: Made by it.
        decision_us: Every hundredth quantile of its decisions, and the last.
        sync_ms: Of each sync that was answered, from its report to what was learnt.
        round_trip_ms: The store's part of it.
        cost_ms: The processor's time of each, in the process.
        turns: Changes of circuits, as each member learnt.
    """

    calls: list[Call]
    decision_us: list[float]
    sync_ms: list[float]
    round_trip_ms: list[float]
    cost_ms: list[float]
    turns: list[Turn]


class Played(NamedTuple):
    """All of it: calls in order of time."""

    calls: list[Call]
    told: list[Told]

    @property
    def turns(self) -> list[Turn]:
        """Changes of circuits, those of one member in order of time."""
        return [turn for told in self.told for turn in told.turns]

    def per_s(self, begin_s: float, end_s: float) -> float:
        """Calls a second in a span."""
        found = sum(begin_s <= call.at_s < end_s for call in self.calls)
        return found / (end_s - begin_s)

    def busiest(self, begin_s: float, end_s: float) -> float:
        """Calls a second of the busiest half second within a span."""
        steps = int((end_s - begin_s - 0.5) * 10) + 1
        starts = [begin_s + step / 10 for step in range(steps)]
        return max(self.per_s(at_s, at_s + 0.5) for at_s in starts)


def play(
    plan: Plan,
    dependency: Dependency,
    folder: Path,
    *,
    meanwhile: Callable[[], None] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Played:
    """Play it in processes of their own.

    Args:
        plan: What is played.
        dependency: How it is protected.
        folder: For what they write down.
        meanwhile: Called when all are about to begin; may break things, and blocks.
        prepare: Called in each process first; of a module, by its name.
    """
    spawn = multiprocessing.get_context("spawn")
    line = _StartLine(spawn.Semaphore(0), spawn.Event(), spawn.Value("d", 0.0))
    files = [folder / f"{plan.namespace}-{n}" for n in range(plan.processes)]
    children = [
        spawn.Process(
            target=_process, args=((plan, dependency), line, n, file, prepare)
        )
        for n, file in enumerate(files)
    ]
    for child in children:
        child.start()
    time.sleep(max(0.0, line.begin(plan.processes) - time.time()))
    if meanwhile is not None:
        meanwhile()
    for child in children:
        child.join(plan.seconds + 60)
        if child.exitcode != 0:
            raise RuntimeError(f"a process ended with {child.exitcode}")
    told = [msgspec.msgpack.decode(file.read_bytes(), type=Told) for file in files]
    calls = sorted((c for t in told for c in t.calls), key=lambda call: call.at_s)
    return Played(calls, told)


def most_at_once(calls: Sequence[Call], took_s: float) -> int:
    """How many of these calls were under way at the same time."""
    ends: list[float] = []
    most = 0
    for call in calls:
        while ends and ends[0] <= call.at_s:
            heapq.heappop(ends)
        heapq.heappush(ends, call.at_s + took_s)
        most = max(most, len(ends))
    return most


def worst_excess(
    calls: Sequence[Call], *, ratio: float, floor_per_s: float, window_s: float = 10.0
) -> float:
    """Retries of the worst window over what it allows; 0.05 is 5 % too many."""
    worst, begin, firsts, retries = -1.0, 0, 0, 0
    for call in calls:
        firsts += not call.is_extra
        retries += call.is_extra
        while calls[begin].at_s <= call.at_s - window_s:
            firsts -= not calls[begin].is_extra
            retries -= calls[begin].is_extra
            begin += 1
        allowed = ratio * firsts + floor_per_s * window_s
        worst = max(worst, retries / allowed - 1)
    return worst


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


class _TimedBoard(FleetBoard):
    """A board whose part of each sync is timed, by the processor's clock."""

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

    def __init__(self, board: FleetBoard, store: FleetStore, clock: Clock) -> None:
        super().__init__(board, store, clock)
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
    shield: Shield
    leave: Leave | None
    fails: bool


class _Caller:
    def __init__(self, plan: Plan, board: FleetBoard, seed: int) -> None:
        self._plan, self._board = plan, board
        self._shields: list[Shield] = list(board.shields.values())
        self._random = random.Random(seed)
        self._later: list[tuple[float, int, int, Shield]] = []
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
                self._ask(now, 1, self._random.choice(self._shields))
            while self._later and self._later[0][0] <= now:
                _, _, attempt, shield = heapq.heappop(self._later)
                self._ask(now, attempt, shield)
            ended = [c for c in self._under_way if c[0] <= now]
            for end in ended:
                self._end(now, end)
            self._under_way = [c for c in self._under_way if c[0] > now]
            next_at = begin + (int(now / _TICK_S) + 1) * _TICK_S
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    def _ask(self, now: float, attempt: int, shield: Shield) -> None:
        leave: Leave | None = None
        if not self._plan.is_naive:
            begin = time.perf_counter_ns()
            with self._board.lock:
                answer = shield.admit(
                    Priority.NORMAL,
                    is_extra=attempt > 1,
                    now_ms=int(time.monotonic() * 1_000),
                )
            self.took_us.append((time.perf_counter_ns() - begin) / 1_000)
            if not isinstance(answer, Leave):
                if len(self._later) < _QUEUE_MOST:
                    self._put(now + answer.wait_ms / 1_000, attempt, shield)
                return
            leave = answer
        is_probe = leave is not None and leave.is_probe
        self.calls.append(Call(now, attempt > 1, is_probe))
        is_down = any(begin <= now < end for begin, end in self._plan.down)
        fails = is_down or self._random.random() < self._plan.fail_ratio
        until = now + self._plan.took_s
        self._under_way.append(_UnderWay(until, attempt, shield, leave, fails))

    def _end(self, now: float, call: _UnderWay) -> None:
        _, attempt, shield, leave, fails = call
        plan = self._plan
        if leave is not None:
            outcome = CallOutcome.FAILURE if fails else CallOutcome.SUCCESS
            end = CallEnd(outcome, int(self._plan.took_s * 1_000))
            with self._board.lock:
                now_ms = int(time.monotonic() * 1_000)
                changed = shield.ended(leave, end, now_ms=now_ms)
            if changed or shield.circuit.is_urgent:
                self._board.urge(shield if changed else None)
        has_room = plan.is_naive or len(self._later) < _QUEUE_MOST
        if fails and attempt < plan.attempts and has_room:
            self._put(now + self._random.uniform(0.05, 0.2), attempt + 1, shield)

    def _put(self, at: float, attempt: int, shield: Shield) -> None:
        heapq.heappush(self._later, (at, next(self._number), attempt, shield))


class _StartLine(NamedTuple):
    """Where processes wait for each other: on a busy machine some come late."""

    ready: Any
    go: Any
    at: Any

    def begin(self, processes: int) -> float:
        """Begin, a second after all are there; when, on the wall clock."""
        for _ in range(processes):
            if not self.ready.acquire(timeout=60):
                raise RuntimeError("a process did not come")
        self.at.value = time.time() + 1.0
        self.go.set()
        return float(self.at.value)

    def wait(self) -> float:
        """Be there; when it begins."""
        self.ready.release()
        self.go.wait()
        return float(self.at.value)


def _process(
    played: tuple[Plan, Dependency],
    line: _StartLine,
    number: int,
    file: Path,
    prepare: Callable[[], None] | None,
) -> None:
    if prepare is not None:
        prepare()
    asyncio.run(_live(*played, line.wait(), number, file))


async def _live(
    plan: Plan, dependency: Dependency, start_at: float, number: int, file: Path
) -> None:
    told = Told([], [], [], [], [], [])
    async with asyncio.TaskGroup() as group:
        for n in range(plan.workers):
            member = _Member(plan, dependency, number * plan.workers + n, start_at)
            group.create_task(member.live(told))
    took = sorted(told.decision_us)
    marks = [took[len(took) * n // 100] for n in range(100)] if took else []
    told.decision_us = [*marks, *took[-1:]]
    file.write_bytes(msgspec.msgpack.encode(told))


class _Member:
    """One member of the fleet: a board, its syncs and its calls."""

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
        self._board = board = _TimedBoard(
            dependencies, clock, process=self._name, ears=self, seed=number
        )
        self._sync = _TimedSync(board, self._store, clock)
        self._caller = _Caller(plan, board, number)
        self._turns: list[Turn] = []

    def circuit_changed(self, change: Change) -> None:
        """Write it down."""
        if change.is_fleet:
            state, at_s = change.state, time.time() - self._start_at
            self._turns.append(
                Turn(at_s, self._name, state.generation, state_word(state))
            )

    def found_strange(self, count: int) -> None:
        """Nobody lies here."""

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
        told.cost_ms += self._board.cost_ms
        told.turns += self._turns
