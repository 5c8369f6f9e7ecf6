"""One worker process's road: fetch → choose → claim → run → hand on → settle.

Slots are filled in batches: while one batch asks for its claims, slots that become
free add up to the next one, so that batches grow with the load by themselves. Claims
are asked for what is about to start, never for what waits: a lease does not run in a
buffer.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from shifter.errors import StoreError
from shifter.model.claim import Cancelled
from shifter.model.job import OnBudget
from shifter.model.reason import Reason
from shifter.model.state import JobState
from shifter.model.time import EpochMs
from shifter.policy.delivery.expiry import is_expired
from shifter.policy.delivery.retry import Expired, Outcome, ThrottledOutcome, lost
from shifter.policy.protection.dependency import Protection
from shifter.telemetry import Event
from shifter.work.attempt import SUCCEEDED, Attempt, Stop
from shifter.work.begin import begin
from shifter.work.buffer import Buffer
from shifter.work.claiming import Claiming
from shifter.work.completer import Completer
from shifter.work.delay_queue import DelayQueue
from shifter.work.dependency_gate import DependencyGate, board_of
from shifter.work.executor import Executor
from shifter.work.fetcher import Fetcher, FetcherParts
from shifter.work.item import NOT_IN_LINE, Item, ItemReader, ItemRefusal, Runnable
from shifter.work.lane_gate import doors_of
from shifter.work.next_step import BUSY_AGAIN_MS, Moment, NextStep, NextSteps, succeeded
from shifter.work.parts import DrainParts, DrainProgress
from shifter.work.waiting_limits import WaitingLimits

_BATCH_MOST, _LINE_LEAST = 1_000, 2_000
_ASKING_MOST = 2
_BUSY_MOST_S, _ASK_AGAIN_S, _GIVEN_UP_S = 60.0, 0.2, 1.0
_HELD_BACK_MOST = 1_000
"""Of those that their dependency keeps waiting; more go back to the log."""
_SENT_BACK_MS, _PARKED_MS, _PATIENCE_MS = 2_000, 5_000, 5_000


class Drain:
    """Runs jobs until told to stop. Owned by one event loop.

    Args:
        parts: What it is made of.
        owner: This worker's id.
        concurrency: Attempts at once, >= 1.
        lease_ms: Lease of a claim, > 0.
        seed: Seeds the draws of backoff; ``None`` from the system.
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
        self._parts, self._clock, self._ledger = parts, parts.clock, parts.ledger
        self._concurrency = concurrency
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        records = max(2 * concurrency, _LINE_LEAST)
        self.room = WaitingLimits(
            parts.lanes, records=records, budget_bytes=parts.waiting_bytes
        )
        self._buffer = Buffer(parts.lanes, self.room, parts.choice)
        self._holding = DelayQueue(self._clock, self._ready_again, self.room)
        self._verdicts = NextSteps(owner, parts.grace_ms)
        self.claiming = Claiming(
            parts.claims, self._clock, parts.ledger, owner=owner, lease_ms=lease_ms
        )
        self._wake = asyncio.Event()
        self._ending = Completer(
            parts.claims, self, parts.clock, lease_ms / 1_000, self._wake.set
        )
        self.board = (
            board_of(parts, owner, seed) if parts.board is None else parts.board
        )
        self._guards = DependencyGate(self.board, self._clock, parts.ledger)
        self._executor = Executor(
            self._clock,
            concurrency=concurrency,
            ended=self._attempt_ended,
            processes=parts.processes,
            begins=self._guards.speak_for,
            stuck=self._attempt_stuck,
        )
        self._asking = 0
        self._stopping, self._is_hurried = asyncio.Event(), False
        self.failure: StoreError | None = None
        self.doors = doors_of(
            parts, self._buffer, self.board, concurrency, opened=self._wake.set
        )
        self._intake = Fetcher(
            FetcherParts(
                self._buffer,
                self._holding,
                self._ending,
                self._verdicts,
                parts.ledger,
                self.doors,
                self.room,
            ),
            ItemReader(parts.lanes, parts.jobs, self.doors.quiet_lanes),
            arrived=self._wake.set,
            moment=self._moment,
            clock=self._clock,
        )

    def stop(self, *, at_once: bool = False) -> None:
        """Take no more work; `run` returns when what runs ended, or was handed back."""
        self._is_hurried |= at_once
        self._stopping.set()
        self._wake.set()
        self._intake.stop()

    @property
    def running(self) -> Mapping[str, int]:
        """Attempts running now, per lane."""
        return Counter(one.item.delivery.topic for one in self._executor.running)

    def load(self) -> float:
        """How late jobs above LOW start: 1 when one stood for 5 s in line."""
        return self._buffer.lateness_ms(now=self._clock.monotonic()) / _PATIENCE_MS

    @property
    def ending(self) -> int:
        """Attempts that ended and whose end is not settled yet."""
        return self._ending.pending

    def standing(self) -> DrainProgress:
        """How far it has come."""
        attempts = list(self._executor.running)
        instants = [attempt.expires_at for attempt in attempts]
        waits = self._holding.next_at, self.doors.next_at
        instants += [at for at in waits if at is not None]
        may_start = self.doors.has_work(self._executor.free)
        goes_on = may_start or self._asking > 0 or self._ending.pending > 0
        return DrainProgress(goes_on, attempts, min(instants, default=None))

    async def run(self, *, drain_timeout_s: float) -> None:
        """Drain until `stop`, then let running attempts end or hand them back.

        Args:
            drain_timeout_s: How long running attempts may go on after `stop`.
        """
        async with asyncio.TaskGroup() as services, asyncio.TaskGroup() as group:
            owned = [
                services.create_task(self._ending.run()),
                services.create_task(self._holding.run()),
                services.create_task(self.doors.run()),
                services.create_task(self._executor.sweep()),
                services.create_task(self._executor.failed()),
                services.create_task(self.claiming.keep(self._executor.running)),
            ]
            intakes = [
                group.create_task(self._intake.run(priority, feed))
                for priority, feed in self._parts.feeds.items()
            ]
            dispatch = group.create_task(self._dispatch(group))
            await self._stopping.wait()
            await self._quiesce(drain_timeout_s)
            for task in (*intakes, dispatch, *owned):
                task.cancel()
        self._executor.close()

    async def _quiesce(self, drain_timeout_s: float) -> None:
        """Shutdown in order: nothing new starts, what runs ends, ends are recorded."""
        handed_back = self._buffer.clear()
        self._ledger.worker(Event.WORKER_DRAINING, handed_back=handed_back)
        until = self._clock.monotonic() + drain_timeout_s
        while self._asking or self._executor.is_ending:
            if self._is_hurried or self._clock.monotonic() >= until:
                self._executor.stop_all(Stop.SHUTDOWN)
            await self._clock.sleep(0.02)
        try:
            wait_s = _GIVEN_UP_S if self.failure else max(5.0, drain_timeout_s)
            async with asyncio.timeout(wait_s):
                await self._ending.drained()
        except TimeoutError:
            self._ledger.abandoned(self._ending.pending)

    def _ready_again(self, item: Item) -> None:
        if self._stopping.is_set():
            return
        stood_in_line = item.ready_at != NOT_IN_LINE
        put = self._buffer.put_back if stood_in_line else self._buffer.put
        put(item, now=self._clock.monotonic())
        self._wake.set()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            await self._wake.wait()
            self._wake.clear()
            while self._may_start():
                items = self._pick()
                if items:
                    self._executor.take(len(items))
                    self._asking += 1
                    group.create_task(self._start(items))

    def _may_start(self) -> bool:
        free = self._executor.free
        return (
            free > 0
            and not self._stopping.is_set()
            and (not self._asking or free * _ASKING_MOST >= self._concurrency)
            and self._asking < _ASKING_MOST
            and self._ending.pending < 4 * self._concurrency + _BATCH_MOST
            and self.doors.has_work(free)
        )

    def _pick(self) -> list[Item]:
        self.doors.refresh()
        slots = min(self._executor.free, _BATCH_MOST)
        items = self._buffer.choose(slots, now=self._clock.monotonic())
        items += self.doors.take(slots - len(items))
        self._intake.made_room()
        begun, gone = begin(items)
        for item in gone:
            self._left(item)
            self._buffer.release(item, now=self._clock.monotonic())
        return [item for item in begun if self._passes(item)]

    def _passes(self, item: Item) -> bool:
        """Whether its dependency can bear it now; else it waits, or ends."""
        held = self._guards.admit(item)
        if held is None:
            return True
        on_budget = None if item.job is None else item.job.spec.on_budget
        if held.by is Protection.BUDGET and on_budget is OnBudget.DEAD_LETTER:
            detail = "its dependency bears no more retries now"
            item.refusal = ItemRefusal(held.reason, detail)
            return True
        self._left(item)
        if len(self._holding) < _HELD_BACK_MOST or item.key_id is not None:
            now = self._clock.monotonic()
            self._holding.hold(item, until=now + held.wait_ms / 1_000)
            return False
        due_ms = self._clock.epoch_ms() + _SENT_BACK_MS + held.wait_ms
        self._ending.add(self._verdicts.postponed(item, due_ms))
        return False

    async def _start(self, items: list[Item]) -> None:
        claimed = await self.claiming.ask(items)
        self._asking -= 1
        now_ms, ready = self._clock.epoch_ms(), list[tuple[Item, Runnable]]()
        for item in claimed.run:
            ending = self._without_run(item, now_ms)
            if ending is not None:
                self._let_go(item)
                self._ending.add(ending)
            elif item.job is not None:
                ready.append((item, item.job))
        self._executor.give_back(len(items) - len(ready))
        self._ledger.started([item for item, _ in ready], now_ms)
        self._executor.start(ready, now_ms=now_ms)
        for item, answer in claimed.settle:
            state = JobState.CANCELLED if isinstance(answer, Cancelled) else None
            self._let_go(item)
            self._ending.add(self._verdicts.settled_elsewhere(item, state))
        for item, wait_s in claimed.wait:
            self._let_go(item)
            self._wait(item, wait_s)
        self._wake.set()

    def _without_run(self, item: Item, now_ms: EpochMs) -> NextStep | None:
        """What becomes of a granted item that is not run; ``None`` to run it."""
        if item.has_succeeded:
            return succeeded(item)
        if item.refusal is not None:
            return self._verdicts.refused(item, item.refusal, None, self._moment())
        if item.losses and (end := lost(item.losses)) is not None:
            detail = f"{item.losses} workers vanished while running it"
            refusal = ItemRefusal(end.reason or Reason.WORKER_LOST, detail)
            return self._verdicts.refused(item, refusal, None, self._moment())
        if is_expired(item.envelope.deadline_ms, now_ms):
            return self._verdicts.after(item, Expired(), None, self._moment())
        return self._held_back(item, now_ms)

    def _held_back(self, item: Item, now_ms: EpochMs) -> NextStep | None:
        """What becomes of an item that may run, but not now; ``None`` to run it."""
        if (due_ms := self.doors.due_ms(item, now_ms)) > now_ms:
            return self._verdicts.put_off(item, due_ms)
        return self._verdicts.interrupted(item) if self._stopping.is_set() else None

    def _left(self, item: Item) -> None:
        """An item that was picked holds its slot no more."""
        self.doors.left(item)
        self._buffer.left(item, now=self._clock.monotonic())

    def _let_go(self, item: Item) -> None:
        """An item that its dependency let pass is not run: others may."""
        self._guards.release(item)
        self._left(item)
        for other in self._guards.next_up(item):
            self._holding.release(other)

    def _wait(self, item: Item, wait_s: float) -> None:
        """Look again when the other's lease ends; not for ever in a lane's way."""
        now = self._clock.monotonic()
        if item.busy_since is None:
            item.busy_since = now
        if now - item.busy_since > _BUSY_MOST_S and item.key_id is None:
            due_ms = self._clock.epoch_ms() + BUSY_AGAIN_MS
            self._ending.add(self._verdicts.postponed(item, due_ms))
        else:
            self._holding.hold(item, until=now + wait_s)

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome) -> None:
        item = attempt.item
        self._ledger.ran(attempt, self._clock.monotonic())
        self._guards.ended(attempt)
        self._left(item)
        for other in self._guards.next_up(item):
            self._holding.release(other)
        if outcome is SUCCEEDED and not item.is_degraded:
            self._ending.add_done(item)
        elif outcome is SUCCEEDED:
            self._ending.add(self._verdicts.degraded(item))
        elif attempt.stopped is Stop.LEASE_LOST:
            self.fence_lost(item)
        else:
            self._ending.add(self._after(attempt, outcome))
        self._wake.set()

    def _attempt_stuck(self, attempt: Attempt) -> None:
        """Only the end of the process ends the handler: let it be replaced."""
        self._ledger.stuck(attempt)
        self.stop()

    def _after(self, attempt: Attempt, outcome: Outcome) -> NextStep:
        """What follows an attempt that did not succeed.

        A death that many of its lane die is not charged: the job is parked.
        """
        item, moment = attempt.item, self._moment()
        step = self._verdicts.after(item, outcome, attempt.error, moment)
        if step.state is not JobState.DEAD or item.refusal is not None:
            return step
        if step.error is None or not self._guards.spares(item, step.error.fingerprint):
            return step
        return self._verdicts.after(
            item, ThrottledOutcome(_PARKED_MS), step.error, moment
        )

    def done(self, items: Sequence[Item]) -> None:
        """Jobs ended as they should; their deliveries are settled."""
        self._ledger.done(items)
        for item in items:
            self._leave(item)

    def settled(self, step: NextStep) -> None:
        """The delivery ended otherwise; its state is known."""
        if isinstance(step.entry, Item):
            self._leave(step.entry)
            if step.state is JobState.DONE and not step.is_copy:
                self._ledger.done([step.entry])
                return
        self._ledger.ended(step)

    def _leave(self, item: Item) -> None:
        self.claiming.forget(item)
        if item.key_id is not None:
            self._buffer.release(item, now=self._clock.monotonic())

    def waits(self, step: NextStep) -> None:
        """The item keeps its place and runs again later, unless handed back."""
        item = cast("Item", step.entry)
        self.claiming.forget(item)
        if step.wait_s is not None:
            self._ledger.ended(step)
            until = self._clock.monotonic() + step.wait_s
            self._holding.hold(item, until=until, is_aside=step.misfit is not None)

    def fence_lost(self, item: Item) -> None:
        """Somebody else was granted the job; ask again what became of it."""
        self.claiming.forget(item)
        self._ledger.fence_lost(item)
        self._holding.hold(item, until=self._clock.monotonic() + _ASK_AGAIN_S)

    def hand_over_failed(self, step: NextStep, detail: str) -> None:
        """A successor was not taken yet; it will be tried again."""
        self._ledger.hand_over_failed(step, detail)

    def give_up(self, error: StoreError) -> None:
        """End in order, and leave to others what this process cannot write."""
        self.failure = error
        self.stop()

    def too_large(self, step: NextStep) -> NextStep:
        """What to try instead of a step whose successor the log finds too large."""
        return self._verdicts.cut(step, self._moment())

    def _moment(self) -> Moment:
        epoch_ms, monotonic = self._clock.epoch_ms(), self._clock.monotonic()
        return Moment(epoch_ms, monotonic, self._random.random())
