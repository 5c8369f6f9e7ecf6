"""Looks at a run from outside, as an operator would, and keeps what was seen.

Lanes and dead letters through the looking-after side of the log, workers through what
they report, the backend through its own answer. A store that does not answer once costs
that look, not the run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.config import Settings
from shifter.demo.app import QUEUE
from shifter.demo.tally import Tally
from shifter.demo.wire import Look, Told, ask
from shifter.errors import StoreError
from shifter.model.lane import Lane, Priority, dead_letter_topic
from shifter.ports import Clock, LaneDepth, LogAdmin, PresenceStore
from shifter.wire.dead_letter import read_dead_letter

EVERY_S: Final = 0.25


class Seen(NamedTuple):
    """The last look.

    Attributes:
        backend: Its answer; ``None`` before the first.
        waiting: Priority to how many wait, the delayed included, the running not.
        oldest_age_s: Priority to how long the oldest has been in its lane.
        workers: Process ids of live workers, ascending.
    """

    backend: Look | None
    waiting: Mapping[Priority, int]
    oldest_age_s: Mapping[Priority, float]
    workers: tuple[int, ...]


class Watcher:
    """Looks, four times a second.

    Args:
        admin: Of the log.
        presence: Where workers report.
        namespace: Of the run.
        socket: The backend's.
        tally: Where what was carried out goes, and what waits.
        clock: Paces the looking.

    Attributes:
        seen: The last look.
    """

    def __init__(
        self,
        admin: LogAdmin,
        presence: PresenceStore,
        namespace: str,
        socket: str,
        tally: Tally,
        clock: Clock,
    ) -> None:
        self._admin, self._presence, self._socket = admin, presence, socket
        self.tally, self._clock = tally, clock
        self._lanes = [Lane(namespace, QUEUE, p).name for p in Priority]
        self._dead_letters = dead_letter_topic(namespace, QUEUE)
        self._known = 0
        self._letters = 0
        self.seen = Seen(None, {}, {}, ())

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(EVERY_S)

    async def look(self) -> None:
        """Look once."""
        backend = await self._ask_backend()
        with contextlib.suppress(StoreError):
            depths = await self._admin.depths(self._lanes)
            workers = await self._workers()
            self._note_new(workers)
            await self._read_letters()
            now_ms = self._clock.epoch_ms()
            running = {} if backend is None else backend.running
            self.seen = Seen(
                backend, _waiting(depths, running), _ages(depths, now_ms), workers
            )
            if self.tally.began_at:
                second = self._clock.monotonic() - self.tally.began_at
                self.tally.waiting.append((second, self.seen.waiting))

    async def left(self) -> dict[Priority, int]:
        """How many records of each lane are not settled, or wait for their due time.

        Raises:
            StoreError: The log does not answer.
        """
        depths = await self._admin.depths(self._lanes)
        return {
            priority: depth.waiting + (depth.delayed or 0)
            for priority, depth in zip(Priority, depths, strict=True)
        }

    async def _ask_backend(self) -> Look | None:
        while True:
            line = await ask(self._socket, Told("look", since=self._known))
            if not line:
                return None
            look = msgspec.json.decode(line, type=Look)
            self.tally.serve(look.served)
            self._known += len(look.served)
            if not look.served:
                return look

    async def _workers(self) -> tuple[int, ...]:
        reports = await self._presence.workers()
        # A killed one is reported until its word fades; its process is gone at once.
        return tuple(sorted(r.pid for r in reports if _lives(r.pid)))

    def _note_new(self, workers: tuple[int, ...]) -> None:
        for pid in set(workers) - set(self.seen.workers):
            if self.tally.began_at:
                self.tally.note(f"worker {pid} started", self._clock.monotonic())

    async def _read_letters(self) -> None:
        if await self._admin.count(self._dead_letters) == self._letters:
            return
        count = 0
        async for batch in self._admin.scan(self._dead_letters):
            for delivery in batch:
                count += 1
                letter = read_dead_letter(delivery.headers)
                if letter is not None and letter.job_id is not None:
                    self.tally.dead.add(letter.job_id)
        self._letters = count


@contextlib.asynccontextmanager
async def open_watcher(
    settings: Settings, socket: str, tally: Tally, clock: Clock
) -> AsyncGenerator[Watcher]:
    """A watcher with its own connections."""
    admin, presence = wiring.open_admin(settings), wiring.open_presence(settings)
    try:
        yield Watcher(admin, presence, settings.namespace, socket, tally, clock)
    finally:
        await presence.close()
        await admin.close()


def _waiting(
    depths: Sequence[LaneDepth], running: Mapping[str, int]
) -> dict[Priority, int]:
    # A record that runs is not settled yet; it no longer waits.
    return {
        priority: max(
            0, depth.waiting + (depth.delayed or 0) - running.get(priority.value, 0)
        )
        for priority, depth in zip(Priority, depths, strict=True)
    }


def _ages(depths: Sequence[LaneDepth], now_ms: int) -> dict[Priority, float]:
    return {
        priority: max(0.0, (now_ms - depth.oldest_ms) / 1_000)
        for priority, depth in zip(Priority, depths, strict=True)
        if depth.oldest_ms is not None
    }


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
