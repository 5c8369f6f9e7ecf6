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
from collections.abc import Mapping
from typing import Final

from shifter.errors import StoreError
from shifter.model.claim import JobState
from shifter.policy.delivery.retry import Outcome, ThrottledOutcome
from shifter.telemetry import Event
from shifter.work.attempt import SUCCEEDED, Attempt, Stop
from shifter.work.buffer import Buffer
from shifter.work.claiming import Claiming
from shifter.work.completer import Completer
from shifter.work.delay_queue import DelayQueue
from shifter.work.dependency_gate import DependencyGate, lone_replica
from shifter.work.executor import Executor
from shifter.work.fetcher import Fetcher
from shifter.work.item import NOT_IN_LINE, Item, ItemReader
from shifter.work.lane_gate import gate_of
from shifter.work.next_step import Moment, NextStep, NextSteps
from shifter.work.parts import DrainParts, DrainProgress
from shifter.work.starter import Starter
from shifter.work.state import DrainState
from shifter.work.waiting_limits import WaitingLimits

_LINE_LEAST: Final = 2_000
"""Records that may wait in memory, of all lanes together, with few slots."""
_GIVEN_UP_S: Final = 1.0
"""How long a worker that cannot write to the log waits for what is pending."""
_PARKED_MS: Final = 5_000
"""How long a job waits whose death is its dependency's, before it runs again."""
_PATIENCE_MS: Final = 5_000
"""A job above LOW that has waited for so long makes the load 1."""


class Drain:
    """Runs jobs until told to stop. Owned by one event loop.

    Args:
        parts: What it is made of.
        owner: This worker's id.
        concurrency: Attempts at once, >= 1.
        lease_ms: Lease of a claim, > 0.
        seed: Seeds the draws of backoff; ``None`` from the system.

    Attributes:
        board: What is known of dependencies and of the fleet.
        claiming: The claims of this worker.
        lane_gate: Which lanes may start items now.
        limits: How much may wait in this process.
        failure: Why this process cannot write to the log, if it cannot.
    """

    def __init__(
        self,
        parts: DrainParts,
        *,
        owner: str,
        concurrency: int,
        lease_ms: int,
        seed: int | None = None,
    ) -> None:
        self._parts, self._clock, self._observer = parts, parts.clock, parts.observer
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._wake = asyncio.Event()
        self._stopping, self._is_hurried = asyncio.Event(), False
        self.failure: StoreError | None = None
        self.board = (
            lone_replica(parts, owner, seed) if parts.board is None else parts.board
        )
        self._state = self._share(owner, concurrency, lease_ms)
        self.claiming, self.limits = self._state.claiming, self._state.limits
        self.lane_gate = self._state.lane_gate
        self._completer = Completer(
            self._state,
            parts.claims,
            lease_ms / 1_000,
            fewer=self._wake.set,
            give_up=self.give_up,
        )
        self._executor = Executor(
            self._clock,
            concurrency=concurrency,
            ended=self._attempt_ended,
            processes=parts.processes,
            begins=self._state.dependency_gate.call_for,
            stuck=self._attempt_stuck,
        )
        self._fetcher = Fetcher(
            self._state,
            self._completer,
            ItemReader(parts.lanes, parts.jobs, self.lane_gate.quiet_lanes),
            arrived=self._wake.set,
        )
        self._starter = Starter(
            self._state,
            self._executor,
            self._completer,
            stopping=self._stopping,
            made_room=self._fetcher.made_room,
        )

    def _share(self, owner: str, concurrency: int, lease_ms: int) -> DrainState:
        parts, observer = self._parts, self._observer
        records = max(2 * concurrency, _LINE_LEAST)
        limits = WaitingLimits(
            parts.lanes, records=records, budget_bytes=parts.waiting_bytes
        )
        buffer = Buffer(parts.lanes, limits, parts.choice)
        return DrainState(
            clock=self._clock,
            moment=self._moment,
            limits=limits,
            buffer=buffer,
            delayed=DelayQueue(self._clock, self._ready_again, limits),
            lane_gate=gate_of(
                parts, buffer, self.board, concurrency, opened=self._wake.set
            ),
            dependency_gate=DependencyGate(self.board, observer),
            claiming=Claiming(
                parts.claims, self._clock, observer, owner=owner, lease_ms=lease_ms
            ),
            next_steps=NextSteps(owner, parts.grace_ms),
            observer=observer,
        )

    async def run(self, *, drain_timeout_s: float) -> None:
        """Drain until `stop`, then let running attempts end or hand them back.

        Args:
            drain_timeout_s: How long running attempts may go on after `stop`.
        """
        state = self._state
        async with asyncio.TaskGroup() as services, asyncio.TaskGroup() as group:
            owned = [
                services.create_task(self._completer.run()),
                services.create_task(state.delayed.run()),
                services.create_task(state.lane_gate.run()),
                services.create_task(self._executor.sweep()),
                services.create_task(self._executor.failed()),
                services.create_task(state.claiming.keep(self._executor.running)),
            ]
            fetching = [
                group.create_task(self._fetcher.run(priority, feed))
                for priority, feed in self._parts.feeds.items()
            ]
            starting = group.create_task(self._start_when_woken(group))
            await self._stopping.wait()
            await self._quiesce(drain_timeout_s)
            for task in (*fetching, starting, *owned):
                task.cancel()
        self._executor.close()

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
    def running(self) -> Mapping[str, int]:
        """Attempts running now, per lane."""
        return Counter(one.item.delivery.topic for one in self._executor.running)

    @property
    def pending(self) -> int:
        """Attempts that ended and whose end is not settled yet."""
        return self._completer.pending

    def load(self) -> float:
        """How late jobs above LOW start: 1 when one has waited for 5 s."""
        lateness_ms = self._state.buffer.lateness_ms(now=self._clock.monotonic())
        return lateness_ms / _PATIENCE_MS

    def progress(self) -> DrainProgress:
        """What this drain does now, and when time alone will change something."""
        attempts = list(self._executor.running)
        instants = [attempt.expires_at for attempt in attempts]
        waits = self._state.delayed.next_at, self.lane_gate.next_at
        instants += [at for at in waits if at is not None]
        may_start = self.lane_gate.has_work(self._executor.free)
        goes_on = may_start or self._starter.asking > 0 or self._completer.pending > 0
        return DrainProgress(goes_on, attempts, min(instants, default=None))

    async def _start_when_woken(self, group: asyncio.TaskGroup) -> None:
        """Start batches while there are slots and items, until stopped."""
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            while self._starter.may_start:
                items = self._starter.choose()
                if items:
                    group.create_task(self._start(items))

    async def _start(self, items: list[Item]) -> None:
        await self._starter.start(items)
        self._wake.set()

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Decide what follows an attempt, and have it carried out."""
        item, now = attempt.item, self._clock.monotonic()
        self._observer.ran(attempt, now)
        self._state.dependency_gate.ended(attempt)
        self._starter.left(item, now)
        if outcome is SUCCEEDED and not item.is_degraded:
            self._completer.add_done(item)
        elif outcome is SUCCEEDED:
            self._completer.add(self._state.next_steps.degraded(item))
        elif attempt.stopped is Stop.LEASE_LOST:
            self._completer.fence_lost(item)
        else:
            self._completer.add(self._next_step(attempt, outcome))
        self._wake.set()

    def _next_step(self, attempt: Attempt, outcome: Outcome) -> NextStep:
        """What follows an attempt that did not succeed.

        Where many jobs of a lane die of the same failure, the dependency is suspected:
        the job is not charged and waits.
        """
        item, moment, steps = attempt.item, self._moment(), self._state.next_steps
        step = steps.after(item, outcome, attempt.error, moment)
        if step.state is not JobState.DEAD or item.refusal is not None:
            return step
        gate = self._state.dependency_gate
        if step.error is None or not gate.spares(item, step.error.fingerprint):
            return step
        return steps.after(item, ThrottledOutcome(_PARKED_MS), step.error, moment)

    def _attempt_stuck(self, attempt: Attempt) -> None:
        """A handler does not end: only a new process gets rid of it, so stop."""
        self._observer.stuck(attempt)
        self.stop()

    def _ready_again(self, item: Item) -> None:
        """Put an item that was delayed back among those that may start."""
        if self._stopping.is_set():
            return
        buffer = self._state.buffer
        was_in_line = item.ready_at != NOT_IN_LINE
        put = buffer.put_back if was_in_line else buffer.put
        put(item, now=self._clock.monotonic())
        self._wake.set()

    async def _quiesce(self, drain_timeout_s: float) -> None:
        """Shutdown in order: nothing new starts, what runs ends, ends are recorded."""
        handed_back = self._state.buffer.clear()
        self._observer.worker(Event.WORKER_DRAINING, handed_back=handed_back)
        until = self._clock.monotonic() + drain_timeout_s
        while self._starter.asking or self._executor.is_ending:
            if self._is_hurried or self._clock.monotonic() >= until:
                self._executor.stop_all(Stop.SHUTDOWN)
            await self._clock.sleep(0.02)
        try:
            wait_s = _GIVEN_UP_S if self.failure else max(5.0, drain_timeout_s)
            async with asyncio.timeout(wait_s):
                await self._completer.drained()
        except TimeoutError:
            self._observer.abandoned(self._completer.pending)

    def _moment(self) -> Moment:
        epoch_ms, monotonic = self._clock.epoch_ms(), self._clock.monotonic()
        return Moment(epoch_ms, monotonic, self._random.random())
