"""Looks at the lanes from time to time, so that decisions need not.

What waits for a slot counts, not what runs, nor what finds a worker's slot free. On a
thread with a loop of its own: a service whose loop is busy keeps a fresh view, and
a slow log slows nobody down. While log or state store are away, the view grows old and
after a while says nothing, which means "defer".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

from shifter.errors import ConfigError, StoreError
from shifter.policy.admission.lane_outlook import LaneFacts, next_rate
from shifter.ports import Clock, LaneDepth, LogAdmin, PresenceStore, WorkerReport
from shifter.produce.loop_thread import LoopThread

_OLD_S: Final = 30.0
_JOIN_S: Final = 5.0


class LaneSources(NamedTuple):
    """Where a watch looks."""

    admin: LogAdmin
    presence: PresenceStore


class LaneWatch:
    """What is known of lanes. Read from any thread, never waits.

    Args:
        open_sources: Opens what is looked at, and closes it at the end, both on the
            watch's own thread.
        lanes: Names of the lanes.
        clock: Monotonic and wall time.
        every_s: Seconds between two looks, > 0.
    """

    def __init__(
        self,
        open_sources: Callable[[], AbstractAsyncContextManager[LaneSources]],
        lanes: Callable[[], Sequence[str]],
        clock: Clock,
        *,
        every_s: float = 1.0,
    ) -> None:
        self._open, self._lanes, self._clock = open_sources, lanes, clock
        self._every_s = every_s
        self._facts: Mapping[str, LaneFacts] = {}
        self._ready: Mapping[str, int] = {}
        self._own: dict[str, int] = {}
        self._old_at = 0.0
        self._thread = LoopThread(self._watch, name="shifter-lanes")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End; blocks for as long as a look takes, a few seconds at most."""
        self._thread.stop(_JOIN_S)

    def facts(self, lane: str) -> LaneFacts | None:
        """Of a lane; ``None`` when nothing is known, or not any more."""
        found, own = self._facts.get(lane), self._own.get(lane, 0)
        if found is None or self._clock.monotonic() > self._old_at:
            return None
        if own and (own := own - self._ready.get(lane, 0)) > 0:
            return found._replace(waiting=found.waiting + own)
        return found

    def deferred(self, lane: str) -> None:
        """Count a job of this process that the last look has not seen."""
        self._own[lane] = self._own.get(lane, 0) + 1

    async def _watch(self, stopped: asyncio.Event) -> None:
        sources: LaneSources | None = None
        async with contextlib.AsyncExitStack() as held:
            while not stopped.is_set():
                try:
                    if sources is None:
                        sources = await held.enter_async_context(self._open())
                    await self.look(sources)
                except (StoreError, ConfigError):
                    # The view grows old meanwhile, which is what it should do.
                    pass
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await stopped.wait()

    async def look(self, sources: LaneSources) -> None:
        """Look once.

        Raises:
            StoreError: The log or the state store does not answer.
        """
        lanes, own = list(self._lanes()), self._own
        depths = await sources.admin.depths(lanes)
        workers = await sources.presence.workers()
        now_ms, facts, ready = self._clock.epoch_ms(), {}, {}
        for depth in depths:
            before, serving = self._facts.get(depth.topic), _serving(workers, depth)
            line = max(0, depth.waiting - serving.running)
            rate_per_s = next_rate(
                None if before is None else before.rate_per_s,
                serving.rate_per_s,
                waiting=max(0, line - serving.free),
                is_drained=serving.workers > 0,
            )
            oldest_ms = now_ms if depth.oldest_ms is None else depth.oldest_ms
            age_s = max(0, now_ms - oldest_ms) / 1_000
            waiting = max(0, line - serving.free)
            facts[depth.topic] = LaneFacts(waiting, rate_per_s, age_s)
            ready[depth.topic] = max(0, serving.free - line)
        # What was deferred while this look was under way is counted once too few, for
        # one look; counting it twice would refuse work that fits.
        for lane in own:
            own[lane] = 0
        self._facts, self._ready = facts, ready
        self._old_at = self._clock.monotonic() + _OLD_S


class _Serving(NamedTuple):
    workers: int
    running: int
    free: int
    rate_per_s: float


def _serving(workers: Sequence[WorkerReport], depth: LaneDepth) -> _Serving:
    """Those that ran jobs of the lane of late, and the slots they have left."""
    lane = depth.topic
    mine = [w for w in workers if lane in w.running or lane in w.rate_per_s]
    return _Serving(
        len(mine),
        sum(w.running.get(lane, 0) for w in mine),
        sum(max(0, w.concurrency - sum(w.running.values())) for w in mine),
        sum(w.rate_per_s.get(lane, 0.0) for w in mine),
    )
