"""The service's side: submits every request of the recording at its moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from shifter.api.job import BoundJob
from shifter.demo.app import DemoApp
from shifter.demo.tally import Tally
from shifter.demo.trace import CONVERSATION, Arrival
from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Shed
from shifter.model.lane import Priority
from shifter.ports import Clock

# No backend can read fewer than no tokens: it refuses such a request each time.
_POISON_TOKENS: Final = -1


class Player:
    """Defers jobs and notes the answers.

    Args:
        jobs: The app.
        tally: Where the answers go.
        clock: Paces the play.
        speed: Trace seconds a second, > 0.
    """

    def __init__(
        self, jobs: DemoApp, tally: Tally, clock: Clock, *, speed: float
    ) -> None:
        self._tally, self._clock, self._speed = tally, clock, speed
        # Made once: the options of a call are checked when they are given.
        self._converse = {p: jobs.converse.options(priority=p) for p in Priority}
        self._complete = {p: jobs.complete.options(priority=p) for p in Priority}

    async def play(
        self, arrivals: Sequence[Arrival], *, length_s: float, ending: asyncio.Event
    ) -> None:
        """Offer what arrives within so many seconds of the play, which begins now.

        Returns when these are over, or when the play is to end. What was begun is
        always finished: a call that is cancelled leaves its job in an unknown state.
        """
        began_at = self._tally.began_at
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                arrived_at = began_at + arrival.at_s / self._speed
                if arrived_at >= began_at + length_s:
                    break
                if await self._is_over(arrived_at, ending):
                    return
                group.create_task(self._offer(arrival, arrived_at))
            await self._is_over(began_at + length_s, ending)

    async def poison(self) -> None:
        """Submit one poison job of each priority, which no handler can carry out."""
        now = self._clock.monotonic()
        for priority in Priority:
            bad = Arrival(0.0, CONVERSATION, priority, _POISON_TOKENS, 1)
            await self._offer(bad, now)

    async def _is_over(self, until: float, ending: asyncio.Event) -> bool:
        """Wait until an instant; return whether the play was ended meanwhile."""
        left_s = until - self._clock.monotonic()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await ending.wait()
        return ending.is_set()

    async def _offer(self, arrival: Arrival, arrived_at: float) -> None:
        priority = arrival.priority
        self._tally.offer(priority, arrived_at)
        job: BoundJob[Any, Any] = self._jobs(arrival.kind)[priority]
        try:
            answer = await job.defer(
                priority=priority,
                arrived_at=arrived_at,
                context_tokens=arrival.context_tokens,
                generated_tokens=arrival.generated_tokens,
            )
        except OutcomeUnknownError as error:
            self._tally.unknown.add(error.job_id)
            return
        if isinstance(answer, Shed):
            self._tally.refused[answer.reason.value] += 1
        else:
            self._tally.accepted[answer.job_id] = priority

    def _jobs(self, kind: str) -> dict[Priority, BoundJob[..., Any]]:
        return self._converse if kind == CONVERSATION else self._complete
