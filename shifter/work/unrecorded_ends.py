"""Ends that the claim store could not record, until it is back.

Most are settled at once and recorded later; unsettled, they would be delivered again. A
job with an idempotency key shares its claim with other jobs of the key, so it is
settled only after its end was recorded: otherwise the next job of the key would find it
*running* for an hour, and then take effect again. If the worker dies before that, the
record is delivered again, and the same turn runs again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from shifter.errors import StoreError
from shifter.model.claim import ClaimUpdate
from shifter.model.job import ClaimsMode
from shifter.ports import ClaimStore, Clock
from shifter.work.item import Item
from shifter.work.next_step import NextStep

_PAUSE_S: Final = 0.5
_MOST: Final = 10_000
"""Ends of settled jobs that are remembered; more are forgotten."""
_BATCH: Final = 1_000


class _Held(NamedTuple):
    """A step that is not settled yet, and the latest monotonic time for that."""

    step: NextStep
    update: ClaimUpdate
    until: float


class UnrecordedEnds:
    """Keeps ends until they can be recorded. Owned by one event loop.

    Args:
        claims: Where ends are recorded.
        clock: For pauses between tries.
        lease_s: How long a claim can be trusted, > 0.
        settle: `Completer._settle`.
    """

    def __init__(
        self,
        claims: ClaimStore,
        clock: Clock,
        lease_s: float,
        settle: Callable[[Sequence[tuple[NextStep, bool]]], Awaitable[None]],
    ) -> None:
        self._claims, self._clock = claims, clock
        self._lease_s, self._settle = lease_s, settle
        self._held: list[_Held] = []
        self._settled: list[ClaimUpdate] = []
        self._some, self._one = asyncio.Event(), asyncio.Lock()

    async def put(self, steps: Sequence[NextStep]) -> None:
        """Take over steps that could not be recorded."""
        now, at_once = self._clock.monotonic(), []
        for step in steps:
            until = now + self._may_wait_s(step)
            if step.update is not None and until > now:
                self._held.append(_Held(step, step.update, until))
            else:
                at_once.append(step)
        await self._settle_unrecorded(at_once)
        if self._held or self._settled:
            self._some.set()

    def note(self, updates: Sequence[ClaimUpdate]) -> None:
        """Record these when the store answers: ends of jobs that ran unclaimed."""
        self._settled += updates[: _MOST - len(self._settled)]
        if updates:
            self._some.set()

    async def run(self) -> None:
        """Try again and again while there are some, until cancelled."""
        while True:
            await self._some.wait()
            await self._clock.sleep(_PAUSE_S)
            await self.record()

    async def record(self) -> None:
        """Try once."""
        async with self._one:
            # Steps are only added meanwhile, behind these.
            held, settled = list(self._held), self._settled[:_BATCH]
            if updates := [*(late.update for late in held), *settled]:
                try:
                    answers = await self._claims.finish(updates)
                except StoreError:
                    await self._give_up()
                    return
                del self._held[: len(held)], self._settled[: len(settled)]
                steps = [late.step for late in held]
                await self._settle(list(zip(steps, answers, strict=False)))
            if not (self._held or self._settled):
                self._some.clear()

    async def _give_up(self) -> None:
        """Settle the steps whose time is over, unrecorded."""
        now = self._clock.monotonic()
        over = [late.step for late in self._held if late.until <= now]
        self._held = [late for late in self._held if late.until > now]
        await self._settle_unrecorded(over)

    async def _settle_unrecorded(self, steps: Sequence[NextStep]) -> None:
        updates = [step.update for step in steps if step.update is not None]
        self._settled += updates[: _MOST - len(self._settled)]
        if steps:
            await self._settle([(step, True) for step in steps])

    def _may_wait_s(self, step: NextStep) -> float:
        """How long a step may stay unsettled for the sake of its record."""
        item = step.entry
        if not isinstance(item, Item):
            return 0.0
        if step.state.is_terminal and item.identity != item.envelope.id:
            return math.inf
        is_parked = item.job is not None and item.job.spec.claims is ClaimsMode.PARK
        return self._lease_s if is_parked else 0.0
