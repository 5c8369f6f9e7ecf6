"""Carries out what follows an attempt: append, record in the claim store, settle.

effect → successor acknowledged → claim updated with the fence → settled. A crash
between any two of these is repaired by the claim store's answers; a fence that lost
settles nothing, and its item asks for its claim again.

Ends without a successor go through in rounds, each taking all that ended during the
last one, so that a round trip serves many jobs. Successors (retries, dead letters) go
through beside them, since a log may take seconds where the claim store takes none.

Ends that the claim store cannot record are kept until it is back
(`shifter.work.unrecorded_ends`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from shifter.errors import StoreError, StoreRefusedError
from shifter.model.claim import JobState, WaitingJobs
from shifter.model.reason import Reason
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import Appended, ClaimStore, Refused, Unknown
from shifter.work.item import Item, Unreadable, by_feed
from shifter.work.next_step import NextStep, ended_update, succeeded
from shifter.work.state import DrainState
from shifter.work.unrecorded_ends import UnrecordedEnds

_HAND_OVER_TIMEOUT_S: Final = 35.0
"""One try to append; `HealthPolicy.stalled_s` is longer."""
_MOVE_TIMEOUT_S: Final = 1.0
"""The same for a job that is moved to another worker: it can start here as well."""
_BACKOFF_S: Final = (0.2, 1.0, 5.0, 15.0)
"""Pauses between tries to append; the last one repeats."""
_ASK_AGAIN_S: Final = 0.2
"""When an item whose fence was lost asks for its claim again."""


class Completer:
    """Carries steps out. Owned by one event loop.

    Args:
        state: What the stages of the drain share.
        claims: Where ends are recorded.
        lease_s: How long a claim can be trusted, > 0.
        fewer: Called when fewer steps are pending.
        give_up: Called when this process cannot write to the log, and other processes
            can.

    Attributes:
        pending: Steps that are not carried out yet.
    """

    def __init__(
        self,
        state: DrainState,
        claims: ClaimStore,
        lease_s: float,
        *,
        fewer: Callable[[], None],
        give_up: Callable[[StoreError], None],
    ) -> None:
        self._state, self._claims = state, claims
        self._fewer, self._give_up = fewer, give_up
        self._unrecorded = UnrecordedEnds(claims, state.clock, lease_s, self._settle)
        self._steps: list[NextStep] = []
        self._succeeded: list[Item] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.pending = 0
        self._moved_at = 0.0

    def add(self, step: NextStep) -> None:
        """Carry a step out soon."""
        self._steps.append(step)
        self._added()

    def add_done(self, item: Item) -> None:
        """Settle a job that succeeded: the usual end, and the cheapest."""
        self._succeeded.append(item)
        self._added()

    def _added(self) -> None:
        if not self.pending:
            self._moved_at = self._state.clock.monotonic()
            self._idle.clear()
        self.pending += 1
        self._wake.set()

    @property
    def unsettled_s(self) -> float:
        """Seconds since when steps are pending and the log took nothing; else 0."""
        if not self.pending:
            return 0.0
        return self._state.clock.monotonic() - self._moved_at

    async def drained(self) -> None:
        """Wait until every step so far was carried out."""
        await self._idle.wait()
        await self._unrecorded.record()

    async def run(self) -> None:
        """Carry steps out until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._unrecorded.run())
            while True:
                await self._wake.wait()
                self._wake.clear()
                done, self._succeeded = self._succeeded, []
                if done:
                    await self._finish_done(done)
                steps, self._steps = self._steps, []
                forwards = [step for step in steps if step.record is not None]
                if forwards:
                    # Beside the rounds: the log may take seconds.
                    group.create_task(self._hand_on(forwards))
                    steps = [step for step in steps if step.record is None]
                if steps:
                    await self._finish(steps)

    async def _finish_done(self, items: list[Item]) -> None:
        updates = [ended_update(item, JobState.DONE) for item in items if item.fence]
        try:
            answers = iter(await self._claims.finish(updates) if updates else ())
        except StoreError:
            await self._finish([succeeded(item) for item in items])
            return
        if len(updates) < len(items):
            self._note_unclaimed([succeeded(item) for item in items])
        held = [not item.fence or next(answers) for item in items]
        if not all(held):
            steps = map(succeeded, items)
            await self._settle(list(zip(steps, held, strict=True)))
            return
        await self._settle_deliveries(items)
        self._state.observer.done(items)
        for item in items:
            self._leave(item)
        self._ended(len(items))

    async def _settle_deliveries(self, entries: Sequence[Item | Unreadable]) -> None:
        for mine in by_feed(entries):
            await mine[0].feed.settle([entry.delivery for entry in mine])
            self._moved_at = self._state.clock.monotonic()

    async def _hand_on(self, steps: list[NextStep]) -> None:
        for pause_s in itertools.chain(_BACKOFF_S, itertools.repeat(_BACKOFF_S[-1])):
            taken, steps = await self._hand_over(steps)
            if taken:
                await self._finish(taken)
            if not steps:
                return
            await self._state.clock.sleep(pause_s)

    async def _hand_over(
        self, steps: list[NextStep]
    ) -> tuple[list[NextStep], list[NextStep]]:
        """Append successors; the steps that the log took, and those to try again."""
        taken, left = list[NextStep](), list[NextStep]()
        for mine in _appends(steps):
            feed = mine[0].entry.feed
            pairs = [(one.entry.delivery, one.record) for one in mine if one.record]
            is_moved = mine[0].is_moved
            timeout_s = _MOVE_TIMEOUT_S if is_moved else _HAND_OVER_TIMEOUT_S
            answers = await feed.hand_over(pairs, timeout_s=timeout_s)
            self._moved_at = self._state.clock.monotonic()
            for step, answer in zip(mine, answers, strict=True):
                if isinstance(answer, Appended):
                    taken.append(step)
                elif is_moved:
                    self._stays(cast("Item", step.entry))
                else:
                    left.append(self._not_taken(step, answer))
        return taken, left

    def _stays(self, item: Item) -> None:
        """Let an item start here that the log did not take for another worker.

        It may be in the log all the same: the claim store then lets one of both run.
        """
        until = self._state.clock.monotonic() + _ASK_AGAIN_S
        self._state.delayed.hold(item, until=until)
        self._ended(1)

    def _not_taken(self, step: NextStep, answer: Refused | Unknown) -> NextStep:
        """What to try instead of a step whose successor the log did not take."""
        self._state.observer.hand_over_failed(step, answer.detail)
        reason = answer.reason if isinstance(answer, Refused) else None
        if reason == Reason.CLOCK_REFUSED:
            self._give_up(StoreRefusedError("log", "append", answer.detail))
        if reason == Reason.TOO_LARGE:
            return self._state.next_steps.cut(step, self._state.moment())
        return step

    async def _finish(self, steps: Sequence[NextStep]) -> None:
        self._note_unclaimed(steps)
        updates = [step.update for step in steps if step.update is not None]
        try:
            answers = iter(await self._claims.finish(updates) if updates else ())
        except StoreError:
            await self._unrecorded.put(steps)
            return
        waiting = _still_waiting(steps)
        held = [step.update is None or next(answers) for step in steps]
        await self._settle(list(zip(steps, held, strict=True)))
        if waiting:
            # It decides nothing, so nothing waits for it.
            with contextlib.suppress(StoreError):
                await self._claims.add_waiting(waiting)

    def _note_unclaimed(self, steps: Iterable[NextStep]) -> None:
        """Have the ends recorded of jobs that may be recorded as waiting."""
        ended = [
            ended_update(step.entry, step.state)
            for step in steps
            if isinstance(step.entry, Item)
            and not step.entry.fence
            and step.entry.identity == step.entry.envelope.id
            and step.state.is_terminal
            and not step.is_copy
        ]
        if ended:
            self._unrecorded.note(ended)

    async def _settle(self, steps: Sequence[tuple[NextStep, bool]]) -> None:
        """End steps that were recorded; each with whether its claim was still held."""
        ended = [step.entry for step, held in steps if held and step.settles]
        await self._settle_deliveries(ended)
        for step, held in steps:
            if not held:
                self.fence_lost(cast("Item", step.entry), step.state)
            elif step.settles:
                self._settled(step)
            else:
                self._waits(step)
        self._ended(len(steps))

    def _settled(self, step: NextStep) -> None:
        if isinstance(step.entry, Item):
            self._leave(step.entry)
            if step.state is JobState.DONE and not step.is_copy:
                self._state.observer.done([step.entry])
                return
        self._state.observer.ended(step)

    def _leave(self, item: Item) -> None:
        self._state.claiming.forget(item)
        if item.key_id is not None:
            self._state.buffer.release(item, now=self._state.clock.monotonic())

    def _waits(self, step: NextStep) -> None:
        """An item keeps its place and runs again later, unless it was handed back."""
        item, state = cast("Item", step.entry), self._state
        state.claiming.forget(item)
        if step.wait_s is not None:
            state.observer.ended(step)
            until = state.clock.monotonic() + step.wait_s
            state.delayed.hold(item, until=until, is_aside=step.misfit is not None)

    def fence_lost(self, item: Item, state: JobState | None = None) -> None:
        """Another worker was granted the job: ask again what became of it.

        Args:
            item: Whose fence is not the newest any more.
            state: What its attempt came to; ``None`` if it did not end.
        """
        if state is not None:
            item.has_succeeded = state is JobState.DONE
        self._state.claiming.forget(item)
        self._state.observer.fence_lost(item)
        until = self._state.clock.monotonic() + _ASK_AGAIN_S
        self._state.delayed.hold(item, until=until)

    def _ended(self, count: int) -> None:
        self.pending -= count
        self._fewer()
        if not self.pending:
            self._idle.set()


def _still_waiting(steps: Iterable[NextStep]) -> list[WaitingJobs]:
    """Jobs that were put off without a claim; those that were moved start at once.

    Their records do not lie where their ids point in the log.
    """
    found: list[WaitingJobs] = []
    for step in steps:
        item, is_put_off = step.entry, step.record and step.state is JobState.WAITING
        is_put_off = is_put_off and not step.is_moved
        if isinstance(item, Item) and is_put_off and not item.fence:
            job_id = item.envelope.id
            key = None if item.identity == job_id else item.identity
            found.append(WaitingJobs([job_id], WAITING_KEEP_MS, key))
    return found


def _appends(steps: Iterable[NextStep]) -> Iterable[list[NextStep]]:
    """What is handed over together, by feed; what was found too large goes alone."""
    groups: dict[tuple[int, int | None, bool], list[NextStep]] = {}
    for number, step in enumerate(steps):
        key = (id(step.entry.feed), number if step.cut else None, step.is_moved)
        groups.setdefault(key, []).append(step)
    return groups.values()
