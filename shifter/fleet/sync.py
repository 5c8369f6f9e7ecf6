"""Synchronizes a process with its fleet: a round trip every 200 ms, in the background.

In a fleet of thousands the round trips are rarer; see `policy.protection.fleet_pace`.

No decision waits for a sync. After a failure the waits grow and are jittered, so that a
store that recovers is not overloaded by all processes at once. The event loop is
imported here alone, not with the replica: a process that only declares jobs has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

from shifter.errors import StoreError
from shifter.fleet.replica import FleetReplica
from shifter.policy.protection.fleet_pace import (
    EVERY_S,
    news_spread_s,
    sync_every_s,
)
from shifter.ports import Clock, FleetStore, sleep_or_wake, understood

_LONGEST_S: Final = 2.0
"""Longest wait after failures, so that a store that is back is noticed soon."""

_LEAST_S: Final = 0.01
"""Shortest wait, after urgent news: a busy process must not sync without a pause."""


class FleetSync:
    """Keeps one replica in step with the fleet.

    Args:
        replica: The fleet's state in this process.
        store: The store that the fleet shares.
        clock: Monotonic; its `sleep` is used for the waits.
        every_s: Seconds between two syncs, > 0.
        seed: Of the jitter; ``None`` from the system.

    Attributes:
        tried: Set after the first sync, whether it succeeded or not.
    """

    def __init__(
        self,
        replica: FleetReplica,
        store: FleetStore,
        clock: Clock,
        *,
        every_s: float = EVERY_S,
        seed: int | None = None,
    ) -> None:
        self._replica, self._store, self._clock = replica, store, clock
        self._every_s = every_s
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._news, self._heard = asyncio.Event(), asyncio.Event()
        self.tried = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Sync until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._replica.urgent = self.wake
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._store.listen(self._heard.set))
                group.create_task(self._read_news())
                while True:
                    await self.once()
                    await self._pause()
        finally:
            # Calls to dependencies may end later than this loop.
            self._replica.urgent = None

    async def once(self) -> None:
        """One sync."""
        self._news.clear()
        sent = self._replica.report()
        try:
            view = await self._store.sync(sent.report)
            with understood("the state store", "fleet.sync"):
                self._replica.learn(sent, view)
        except StoreError:
            self._replica.failed(sent)
        self.tried.set()

    async def close(self) -> None:
        """Let go of the store."""
        await self._store.close()

    def wake(self) -> None:
        """Sync at once; may be called from any thread."""
        if self._loop is not None:
            # A thread that called this just before `run` ended finds a closed loop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)

    async def _read_news(self) -> None:
        """Sync soon after another process changed something, until cancelled."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            spread_s = news_spread_s(self._replica.processes)
            if spread_s > 0:
                await self._clock.sleep(spread_s * self._random.random())
            self._news.set()

    async def _pause(self) -> None:
        failures = self._replica.failures
        if self._replica.is_urgent and not failures:
            await self._clock.sleep(_LEAST_S)
            return
        every_s = max(self._every_s, sync_every_s(self._replica.processes))
        longest_s = max(every_s, min(_LONGEST_S, every_s * 2**failures))
        wait_s = (
            longest_s * (0.5 + self._random.random() / 2) if failures else longest_s
        )
        await sleep_or_wake(self._clock, wait_s, self._news)
