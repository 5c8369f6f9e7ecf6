"""Starts items that were fetched: choose → pass the dependency's gate → claim → run.

Slots are filled in batches: while one batch asks for its claims, slots that become
free add up to the next one, so that batches grow with the load by themselves. Claims
are asked for what is about to start, never for what waits: a lease does not run in a
buffer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from shifter.fleet.protection import Rejected
from shifter.jobs.registered import RegisteredJob
from shifter.model.claim import Cancelled, JobState
from shifter.model.job import OnBudget
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.job_limits import is_expired, lost
from shifter.policy.delivery.retry import Expired
from shifter.policy.protection.dependency import Protection
from shifter.work.claiming import Claimed
from shifter.work.completer import Completer
from shifter.work.executor import Executor
from shifter.work.item import Item, ItemRefusal, by_feed
from shifter.work.next_step import BUSY_AGAIN_MS, NextStep, succeeded
from shifter.work.state import DrainState

_BATCH_MOST: Final = 1_000
"""Items of one batch; bounds one call of the claim store."""
_ASKING_MOST: Final = 2
"""Batches that ask for claims at once: one in the store, one on its way."""
_BUSY_MOST_S: Final = 60.0
"""An item whose claim another worker holds for longer goes back to the log."""
_DELAYED_MOST: Final = 1_000
"""Items that wait in memory for their dependency; more go back to the log."""
_SENT_BACK_MS: Final = 2_000


class Starter:
    """Chooses what starts next and starts it. Owned by one event loop.

    Args:
        state: What the stages of the drain share.
        executor: Runs what may run.
        completer: Ends what is not run.
        stopping: Set once nothing may start any more.
        made_room: Called when items have left their line.

    Attributes:
        asking: Batches that ask for their claims.
    """

    def __init__(
        self,
        state: DrainState,
        executor: Executor,
        completer: Completer,
        *,
        stopping: asyncio.Event,
        made_room: Callable[[], None],
    ) -> None:
        self._state, self._executor, self._completer = state, executor, completer
        self._stopping, self._made_room = stopping, made_room
        self._concurrency = executor.free
        self.asking: list[list[Item]] = []

    @property
    def may_start(self) -> bool:
        """Whether a batch may be chosen now."""
        free = self._executor.free
        return (
            free > 0
            and not self._stopping.is_set()
            # While one batch asks, the next one collects half of the slots.
            and (not self.asking or free * _ASKING_MOST >= self._concurrency)
            and len(self.asking) < _ASKING_MOST
            # Ends that pile up mean that the claim store is slow: more would not help.
            and self._completer.pending < 4 * self._concurrency + _BATCH_MOST
            and self._state.lane_gate.has_work(free)
        )

    def choose(self) -> list[Item]:
        """Take the items that start next, and a slot for each; `start` runs them."""
        state, now = self._state, self._state.clock.monotonic()
        state.lane_gate.refresh()
        slots = min(self._executor.free, _BATCH_MOST)
        items = state.buffer.choose(slots, now=now)
        items += state.lane_gate.take(slots - len(items))
        self._made_room()
        owned, gone = _still_owned(items)
        for item in gone:
            self._free_slot(item, now)
            state.buffer.release(item, now=now)
        chosen = [item for item in owned if self._passes(item)]
        if chosen:
            self._executor.take(len(chosen))
            self.asking.append(chosen)
        return chosen

    @property
    def begun(self) -> Mapping[str, int]:
        """Attempts that run, and items that ask for their claims, by topic."""
        items = [one.item for one in self._executor.running]
        items += itertools.chain.from_iterable(self.asking)
        return Counter(item.delivery.topic for item in items)

    async def start(self, items: list[Item]) -> None:
        """Claim chosen items, and run or end each of them."""
        claimed = await self._state.claiming.ask(items)
        self.asking.remove(items)
        now_ms, ready = self._state.clock.epoch_ms(), list[tuple[Item, RegisteredJob]]()
        for item in claimed.run:
            step = self._without_run(item, now_ms)
            if step is not None:
                self.let_go(item)
                self._completer.add(step)
            elif item.job is not None:
                ready.append((item, item.job))
        # `choose` took a slot for each item.
        self._executor.give_back(len(items) - len(ready))
        self._state.observer.started([item for item, _ in ready], now_ms)
        self._executor.start(ready, now_ms=now_ms)
        self._not_granted(claimed)

    def let_go(self, item: Item) -> None:
        """Free what an item took that is not run after all: other items may start."""
        self._state.dependency_gate.release(item)
        self.left(item, self._state.clock.monotonic())

    def left(self, item: Item, now: float) -> None:
        """Let other items start in the place of one that ended or was let go.

        Args:
            item: Chosen before; it has ended, or is not run.
            now: Monotonic seconds.
        """
        self._free_slot(item, now)
        if item.job is not None and item.job.dependency is not None:
            for other in self._state.dependency_gate.next_up(item):
                self._state.delayed.release(other)

    def _free_slot(self, item: Item, now: float) -> None:
        """Note that a chosen item does not hold its slot any more."""
        if item.is_opportunistic:
            self._state.lane_gate.left(item)
        if item.slot_since is not None:
            self._state.buffer.left(item, now=now)

    def _passes(self, item: Item) -> bool:
        """Whether the item's dependency takes it now; else it waits, or ends."""
        held = self._state.dependency_gate.admit(item)
        if held is None:
            return True
        job, is_unpaid = item.job, held.by is Protection.BUDGET
        if is_unpaid and job and job.spec.on_budget is OnBudget.DEAD_LETTER:
            name = "" if job.dependency is None else job.dependency.name
            detail = f"retry budget of {name!r} is exhausted"
            item.refusal = ItemRefusal(held.reason, detail)
            return True
        self._hold_back(item, held)
        return False

    def _hold_back(self, item: Item, held: Rejected) -> None:
        state, now = self._state, self._state.clock.monotonic()
        self._free_slot(item, now)
        state.observer.waits(item, held.by)
        if len(state.delayed) < _DELAYED_MOST or item.key_id is not None:
            state.delayed.hold(item, until=now + held.wait_ms / 1_000)
        else:
            due_ms = state.clock.epoch_ms() + _SENT_BACK_MS + held.wait_ms
            self._completer.add(state.next_steps.postponed(item, due_ms))

    def _without_run(self, item: Item, now_ms: EpochMs) -> NextStep | None:
        """What becomes of a granted item that is not run; ``None`` to run it."""
        steps, moment = self._state.next_steps, self._state.moment
        if item.has_succeeded:
            return succeeded(item)
        if item.refusal is not None:
            return steps.refused(item, item.refusal, None, moment())
        if item.losses and (end := lost(item.losses)) is not None:
            detail = f"{item.losses} workers vanished while running it"
            refusal = ItemRefusal(end.reason or Reason.WORKER_LOST, detail)
            return steps.refused(item, refusal, None, moment())
        if is_expired(item.envelope.deadline_ms, now_ms):
            return steps.after(item, Expired(), None, moment())
        if (due_ms := self._state.lane_gate.due_ms(item, now_ms)) > now_ms:
            return steps.put_off(item, due_ms)
        return steps.interrupted(item) if self._stopping.is_set() else None

    def _not_granted(self, claimed: Claimed) -> None:
        """Settle what has ended elsewhere; hold what another worker runs."""
        for item, answer in claimed.settle:
            state = JobState.CANCELLED if isinstance(answer, Cancelled) else None
            self.let_go(item)
            self._completer.add(self._state.next_steps.settled_elsewhere(item, state))
        for item, wait_s in claimed.wait:
            self.let_go(item)
            self._wait(item, wait_s)

    def _wait(self, item: Item, wait_s: float) -> None:
        """Ask again when the other worker's lease ends.

        An item that has asked for too long goes back to the log, so that it does not
        hold up its lane.
        """
        state, now = self._state, self._state.clock.monotonic()
        if item.busy_since is None:
            item.busy_since = now
        if now - item.busy_since > _BUSY_MOST_S and item.key_id is None:
            due_ms = state.clock.epoch_ms() + BUSY_AGAIN_MS
            self._completer.add(state.next_steps.postponed(item, due_ms))
        else:
            state.delayed.hold(item, until=now + wait_s)


def _still_owned(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Report to the feeds that items start, and sort out those that are not owned.

    Returns:
        The items whose records this process still owns, and the rest: their partitions
        or leases went to another worker since they were fetched.
    """
    owned: list[Item] = []
    gone: list[Item] = []
    for mine in by_feed(items):
        begun = mine[0].feed.begin([item.delivery for item in mine])
        if len(begun) == len(mine):
            owned += mine
            continue
        kept = {id(delivery) for delivery in begun}
        for item in mine:
            (owned if id(item.delivery) in kept else gone).append(item)
    return owned, gone
