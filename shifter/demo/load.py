"""The recorded arrivals, and the load generator that submits them as a service would.

Ten minutes of two inference services, with the worst minute of the hour and a spike in
the second minute, so that a short run has one too. Credit: ``data/CREDIT.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from shifter.demo.app import DemoApp
from shifter.demo.outcome import Tally
from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Shed
from shifter.model.lane import Priority
from shifter.ports import Clock

LENGTH_S: Final = 600.0
"""Seconds of the recording."""

_CONVERSATION: Final = "conversation"
_COMPLETION: Final = "completion"
# Shares that give each priority enough jobs to be seen: 306 are CRITICAL, 385 NORMAL.
_EVERY_CRITICAL: Final = 10
_EVERY_NORMAL: Final = 5
# A number of tokens that the backend refuses each time.
_POISON_TOKENS: Final = -1


class Arrival(NamedTuple):
    """One request of the recording.

    Attributes:
        at_s: Seconds after the recording's beginning, >= 0.
        kind: ``conversation`` or ``completion``.
        priority: By the rule of `read_trace`.
        context_tokens: Tokens read, >= 0.
        generated_tokens: Tokens written, >= 0.
    """

    at_s: float
    kind: str
    priority: Priority
    context_tokens: int
    generated_tokens: int


def read_trace() -> list[Arrival]:
    """The arrivals, in order.

    Chat is ``HIGH``, every tenth request of it ``CRITICAL``; code completion is
    ``LOW``, every fifth of it ``NORMAL``. The recording itself has no priorities.
    """
    packed = files("shifter.demo").joinpath("data", "arrivals.csv.gz").read_bytes()
    seen = {_CONVERSATION: 0, _COMPLETION: 0}
    arrivals = []
    for row in csv.DictReader(gzip.decompress(packed).decode().splitlines()):
        kind = row["kind"]
        seen[kind] += 1
        arrivals.append(
            Arrival(
                int(row["at_ms"]) / 1_000,
                kind,
                _priority(kind, seen[kind]),
                int(row["context_tokens"]),
                int(row["generated_tokens"]),
            )
        )
    return arrivals


def _priority(kind: str, number: int) -> Priority:
    if kind == _CONVERSATION:
        return Priority.HIGH if number % _EVERY_CRITICAL else Priority.CRITICAL
    return Priority.LOW if number % _EVERY_NORMAL else Priority.NORMAL


class LoadGenerator:
    """Defers jobs and counts the answers.

    Args:
        jobs: The app.
        tally: Counts the answers.
        clock: Paces the arrivals.
        speed: Trace seconds a second, > 0.
    """

    def __init__(
        self, jobs: DemoApp, tally: Tally, clock: Clock, *, speed: float
    ) -> None:
        self._tally, self._clock, self._speed = tally, clock, speed
        # Made once: the options of a call are checked when they are given.
        self._jobs = {
            (kind, priority): job.options(priority=priority)
            for kind, job in (
                (_CONVERSATION, jobs.converse),
                (_COMPLETION, jobs.complete),
            )
            for priority in Priority
        }

    async def play(
        self, arrivals: Sequence[Arrival], *, length_s: float, ending: asyncio.Event
    ) -> None:
        """Offer the arrivals of so many seconds from the beginning of the run on.

        Returns when these are over, or when the play is to end. A call that was begun
        is always finished: cancelled, it would leave its job in an unknown state.

        Args:
            arrivals: In order.
            length_s: How long to offer them.
            ending: Set when the play is to end.
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
            bad = Arrival(0.0, _CONVERSATION, priority, _POISON_TOKENS, 1)
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
        try:
            answer = await self._jobs[arrival.kind, priority].defer(
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
