"""One worker process: fetch → choose → claim → run → complete.

Each stage is a class that is given items and hands them on by a call:

1. `Fetcher` reads records of the log and puts them into the buffer, a queue a lane.
2. `Starter` chooses what starts next, lets it pass the gate of its dependency, claims
   it, and
3. gives it to the `Executor`, which runs handlers in the loop, in threads and in
   processes, and reports the end of each attempt here.
4. `NextSteps` decides what follows an attempt: success, a retry, a dead letter.
5. `Completer` carries that out: it appends the next record, records the end in the
   claim store, settles the delivery, and frees what the item held.

`DrainState` is what they share.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from shifter.errors import StoreError
from shifter.fleet.changes import Change
from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.jobs.registered import RegisteredJob
from shifter.model.claim import JobState
from shifter.model.lane import Lane, Priority
from shifter.policy.delivery.retry import Outcome, ThrottledOutcome
from shifter.policy.schedule.lane_choice import LaneChoicePolicy
from shifter.ports import ClaimStore, Clock, DelayMover, LaneFeed, WorkerReport
from shifter.telemetry import Event
from shifter.telemetry.tracing import UNTRACED, Spans
from shifter.work.attempt import SUCCEEDED, Attempt, Stop
from shifter.work.buffer import Buffer
from shifter.work.claiming import Claiming
from shifter.work.completer import Completer
from shifter.work.delay_queue import DelayQueue
from shifter.work.dependency_gate import DependencyGate
from shifter.work.executor import Executor, ProcessRunner
from shifter.work.fetcher import Fetcher
from shifter.work.item import Item, ItemReader
from shifter.work.job_observer import JobObserver
from shifter.work.job_spans import JobSpans
from shifter.work.lane_gate import LaneGate
from shifter.work.load_sharing import LoadSharing
from shifter.work.next_step import Moment, NextStep, NextSteps
from shifter.work.pacer import make_pacer
from shifter.work.starter import Starter
from shifter.work.state import DrainState
from shifter.work.waiting_limits import WaitingLimits

_WAITING_LEAST: Final = 2_000
"""Records that may wait in memory, of all lanes together, with few slots."""
_GIVEN_UP_S: Final = 1.0
"""How long a worker that cannot write to the log waits for what is pending."""
_PARKED_MS: Final = 5_000
"""How long a job waits, uncharged, whose failure is its dependency's."""
_PATIENCE_MS: Final = 5_000
"""A job above LOW that has waited for so long makes the load 1."""
_QUIESCE_LOOK_S: Final = 0.02


class DrainProgress(NamedTuple):
    """What a drain does now; a test that moves its clock by hand reads it.

    Attributes:
        goes_on: Whether it has something to do without any time passing.
        attempts: What runs.
        next_at: When time alone will change something, monotonic; ``None`` never.
    """

    goes_on: bool
    attempts: list[Attempt]
    next_at: float | None


@dataclass(kw_only=True, eq=False)
class Drain:
    """Runs jobs until `stop`. Owned by one event loop.

    The caller opens what it is made of, and closes it.

    Attributes:
        owner: This worker's id, unique per process and start.
        concurrency: Attempts at once, >= 1.
        lease_ms: Lease of a claim, > 0.
        feeds: One per priority served.
        lanes: Lanes served, by topic.
        jobs: Registered jobs, by name.
        claims: Where "once" is decided.
        clock: Reads and waits.
        observer: Counts and logs what happens to jobs.
        replica: This process's copy of the fleet's state of dependencies.
        spans: Traces the attempts.
        processes: For jobs with ``isolate="process"``, if there are any.
        hours: Execution windows; ``None``: those that the jobs declare.
        mover: Moves delayed records; ``None`` where the log does so by itself.
        grace_ms: How long a job waits for a worker that has its type and fields.
        waiting_bytes: What may wait here, fetched and not started, about; > 0.
        choice: How slots are shared; ``None``: by the default weights.
        reports: Reads the reports of all workers, so that jobs can be moved to those
            that have free slots; ``None`` where a job is not bound to a worker.
        pace: Whether LOW jobs with deadlines are paced: ``off``, ``dark`` or ``on``.
        urgent: Slots that more urgent work uses elsewhere, of what the jobs use too.
        seed: Seeds the draws of backoff; ``None`` from the system.
        failure: Why this process cannot write to the log, if it cannot.
        state: What the stages share.
    """

    owner: str
    concurrency: int
    lease_ms: int
    feeds: Mapping[Priority, LaneFeed]
    lanes: Mapping[str, Lane]
    jobs: Mapping[str, RegisteredJob]
    claims: ClaimStore
    clock: Clock
    observer: JobObserver
    replica: FleetReplica
    spans: Spans = UNTRACED
    processes: ProcessRunner | None = None
    hours: Hours | None = None
    mover: DelayMover | None = None
    grace_ms: int = 900_000
    waiting_bytes: int = 64 << 20
    choice: LaneChoicePolicy | None = None
    reports: Callable[[], Awaitable[Sequence[WorkerReport]]] | None = None
    pace: str = "off"
    urgent: Callable[[], float] | None = None
    seed: int | None = None
    failure: StoreError | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  # jitter, no secret
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._is_hurried, self._spans = False, JobSpans(self.spans)
        self.state = state = self._shared_state()
        self._completer = Completer(
            state,
            self.claims,
            self.lease_ms / 1_000,
            fewer=self._wake.set,
            give_up=self.give_up,
        )
        self._executor = Executor(
            self.clock,
            concurrency=self.concurrency,
            ended=self._attempt_ended,
            processes=self.processes,
            begins=state.dependency_gate.call_for,
            stuck=self._attempt_stuck,
            spans=self._spans,
        )
        self.observer.on_circuit = self._circuit_changed
        self._fetcher = Fetcher(
            state,
            self._completer,
            ItemReader(self.lanes, self.jobs, state.lane_gate.quiet_lanes),
            arrived=self._wake.set,
            free=lambda: self._executor.free,
        )
        self._starter = Starter(
            state,
            self._executor,
            self._completer,
            stopping=self._stopping,
            made_room=self._fetcher.made_room,
        )
        self._sharing = LoadSharing(
            state,
            self._completer,
            owner=self.owner,
            reports=self.reports,
            free=lambda: self._executor.free,
            seed=self.seed,
        )
        self.pacer = make_pacer(
            state,
            self.lanes,
            pace=self.pace,
            urgent=self.urgent,
            opened=self._wake.set,
            running=lambda: self._starter.begun,
        )

    def _shared_state(self) -> DrainState:
        clock, observer = self.clock, self.observer
        records = max(2 * self.concurrency, _WAITING_LEAST)
        limits = WaitingLimits(
            self.lanes, records=records, budget_bytes=self.waiting_bytes
        )
        buffer = Buffer(self.lanes, limits, self.choice)
        gate = LaneGate(
            lanes=self.lanes,
            feeds=self.feeds,
            specs={name: job.spec for name, job in self.jobs.items()},
            buffer=buffer,
            replica=self.replica,
            clock=clock,
            slots=self.concurrency,
            opened=self._wake.set,
            hours=Hours(clock, {}) if self.hours is None else self.hours,
            mover=self.mover,
        )
        claiming = Claiming(
            self.claims, clock, observer, owner=self.owner, lease_ms=self.lease_ms
        )
        return DrainState(
            clock=clock,
            moment=self._moment,
            limits=limits,
            buffer=buffer,
            delayed=DelayQueue(clock, self._ready_again, limits),
            lane_gate=gate,
            dependency_gate=DependencyGate(self.replica, observer),
            claiming=claiming,
            next_steps=NextSteps(self.owner, self.grace_ms),
            observer=observer,
        )

    async def run(self, *, drain_timeout_s: float) -> None:
        """Drain until `stop`, then let running attempts end or hand them back.

        Args:
            drain_timeout_s: How long running attempts may go on after `stop`.
        """
        state, executor = self.state, self._executor
        async with asyncio.TaskGroup() as services, asyncio.TaskGroup() as group:
            owned = [
                services.create_task(service)
                for service in (
                    self._completer.run(),
                    self._sharing.run(),
                    state.delayed.run(),
                    state.lane_gate.run(),
                    executor.sweep(),
                    executor.failed(),
                    state.claiming.keep(executor.running),
                    *(() if self.pacer is None else (self.pacer.run(),)),
                )
            ]
            fetching = [
                group.create_task(self._fetcher.run(priority, feed))
                for priority, feed in self.feeds.items()
            ]
            starting = group.create_task(self._start_when_woken(group))
            await self._stopping.wait()
            await self._quiesce(drain_timeout_s)
            # Batches that ask for their claims are tasks of `group` too: not cancelled.
            for task in (*fetching, starting, *owned):
                task.cancel()
        executor.close()

    def stop(self, *, at_once: bool = False) -> None:
        """Take no more work; `run` returns when what runs ended, or was handed back.

        Args:
            at_once: Stop what runs too, instead of waiting for it.
        """
        self._is_hurried |= at_once
        self._stopping.set()
        self._wake.set()
        self._fetcher.stop()

    def give_up(self, error: StoreError) -> None:
        """Stop in order, and leave to other workers what this one cannot write."""
        self.failure = error
        self.stop()

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no more work."""
        return self._stopping.is_set()

    @property
    def running(self) -> Mapping[str, int]:
        """Attempts running now, per lane."""
        return Counter(one.item.delivery.topic for one in self._executor.running)

    @property
    def unpolled_s(self) -> float:
        """Seconds since the priority was polled that was polled longest ago."""
        return self._fetcher.unpolled_s

    @property
    def unsettled_s(self) -> float:
        """Seconds since when ends are pending and the log took nothing; else 0."""
        return self._completer.unsettled_s

    def load(self) -> float:
        """How late jobs above LOW start: 1 when one has waited for 5 s."""
        lateness_ms = self.state.buffer.lateness_ms(now=self.clock.monotonic())
        return lateness_ms / _PATIENCE_MS

    def progress(self) -> DrainProgress:
        """What this drain does now, and when time alone will change something."""
        state, attempts = self.state, list(self._executor.running)
        instants = [attempt.expires_at for attempt in attempts]
        waits = state.delayed.next_at, state.lane_gate.next_at
        instants += [at for at in waits if at is not None]
        may_start = state.lane_gate.has_work(self._executor.free)
        goes_on = may_start or bool(self._starter.asking) or self._completer.pending > 0
        return DrainProgress(goes_on, attempts, min(instants, default=None))

    async def _start_when_woken(self, group: asyncio.TaskGroup) -> None:
        """Start batches while there are slots and items, until stopped."""
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            self._fetcher.look_again()
            while self._starter.may_start:
                items = self._starter.choose()
                if items:
                    group.create_task(self._start(items))
            self._sharing.look()

    async def _start(self, items: list[Item]) -> None:
        await self._starter.start(items)
        self._wake.set()

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Decide what follows an attempt, and have it carried out."""
        item, now = attempt.item, self.clock.monotonic()
        self.observer.ran(attempt, now)
        self.state.dependency_gate.ended(attempt)
        self._starter.left(item, now)
        if self.pacer is not None:
            self.pacer.ended(item, now - attempt.started_at)
        step: NextStep | None = None
        if outcome is SUCCEEDED and not item.is_degraded:
            # The usual end, which takes no step of its own.
            self._completer.add_done(item)
        elif outcome is SUCCEEDED:
            step = self.state.next_steps.degraded(item)
        elif attempt.stopped is Stop.LEASE_LOST:
            self._completer.fence_lost(item)
        else:
            step = self._next_step(attempt, outcome)
        if step is not None:
            self._completer.add(step)
        if self._spans.is_on:
            self._spans.end(attempt, outcome, step, now)
        self._wake.set()

    def _next_step(self, attempt: Attempt, outcome: Outcome) -> NextStep:
        """What follows an attempt that did not succeed.

        Where many jobs of a lane die of the same failure, the dependency is suspected:
        the job is not charged and waits.
        """
        item, moment, steps = attempt.item, self._moment(), self.state.next_steps
        step = steps.after(item, outcome, attempt.error, moment)
        if step.state is not JobState.DEAD or item.refusal is not None:
            return step
        gate = self.state.dependency_gate
        if step.error is None or not gate.spares(item, step.error.fingerprint):
            return step
        return steps.after(item, ThrottledOutcome(_PARKED_MS), step.error, moment)

    def _circuit_changed(self, change: Change) -> None:
        """Note a change of a circuit on the spans of the attempts it concerns."""
        if self._spans.is_on:
            self._spans.circuit_changed(change, list(self._executor.running))

    def _attempt_stuck(self, attempt: Attempt) -> None:
        """A handler does not end: only a new process gets rid of it, so stop."""
        self.observer.stuck(attempt)
        self.stop()

    def _ready_again(self, item: Item) -> None:
        """Put an item that was delayed back among those that may start."""
        if not self._stopping.is_set():
            self.state.buffer.put(item, now=self.clock.monotonic())
            self._wake.set()

    async def _quiesce(self, drain_timeout_s: float) -> None:
        """Shutdown in order: nothing new starts, what runs ends, ends are recorded."""
        handed_back = self.state.buffer.clear()
        self.observer.worker(Event.WORKER_DRAINING, handed_back=handed_back)
        until = self.clock.monotonic() + drain_timeout_s
        # A stuck attempt is not waited for: it ends with the process only.
        while self._starter.asking or self._executor.is_ending:
            if self._is_hurried or self.clock.monotonic() >= until:
                self._executor.stop_all(Stop.SHUTDOWN)
            await self.clock.sleep(_QUIESCE_LOOK_S)
        try:
            wait_s = _GIVEN_UP_S if self.failure else max(5.0, drain_timeout_s)
            async with asyncio.timeout(wait_s):
                await self._completer.drained()
        except TimeoutError:
            self.observer.abandoned(self._completer.pending)

    def _moment(self) -> Moment:
        clock = self.clock
        return Moment(clock.epoch_ms(), clock.monotonic(), self._random.random())
