"""Looks at a run from outside, as an operator would, and gives one picture of it.

Lanes and dead letters are read through the log's admin, workers from their reports, the
backend's state from its own answer. A store that does not answer once costs that look,
not the run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from shifter import wiring
from shifter.config import Settings
from shifter.demo.app import QUEUE
from shifter.demo.backend import BackendState, Command, ask
from shifter.demo.outcome import Tally
from shifter.errors import StoreError
from shifter.model.lane import Lane, Priority, dead_letter_topic
from shifter.ports import Clock, LaneDepth, LogAdmin, PresenceStore
from shifter.wire.dead_letter import read_dead_letter

# As often as the live view is drawn.
_EVERY_S: Final = 0.25
# More than a tall terminal has lines.
_LAST_EVENTS: Final = 50


class Phase(StrEnum):
    """The part of a run that goes on."""

    STARTING = "starting"
    PLAYING = "playing"
    DRAINING = "draining"
    ENDING = "ending"


class PriorityFrame(NamedTuple):
    """One priority at one moment.

    Attributes:
        priority: Of the jobs.
        offered: So far.
        executed: So far.
        waiting: Now, the delayed included.
        oldest_age_s: How long the oldest record has been in its lane; ``None`` if none.
        dead: So far.
        offered_per_s: By second from the beginning.
        executed_per_s: The same.
    """

    priority: Priority
    offered: int
    executed: int
    waiting: int
    oldest_age_s: float | None
    dead: int
    offered_per_s: tuple[int, ...]
    executed_per_s: tuple[int, ...]


class Frame(NamedTuple):
    """The picture of a run at one moment, as plain values.

    Attributes:
        phase: The part of the run that goes on.
        elapsed_s: Seconds since the first job was offered; 0 before.
        length_s: How long jobs are offered.
        speed: Trace seconds a second.
        rows: Most urgent first.
        is_down: Whether the backend is switched off; ``None`` before it answered.
        running: Its busy slots.
        slots: All of them.
        workers: Process ids of live workers.
        dead_letters: In the dead-letter topic.
        events: Second and text, oldest first.
    """

    phase: Phase
    elapsed_s: float
    length_s: float
    speed: float
    rows: tuple[PriorityFrame, ...]
    is_down: bool | None
    running: int
    slots: int
    workers: tuple[int, ...]
    dead_letters: int
    events: tuple[tuple[float, str], ...]


class Watcher:
    """Looks, four times a second.

    Args:
        admin: Of the log.
        presence: Where workers report.
        namespace: Of the run.
        socket: The backend's.
        clock: Paces the looks.

    Attributes:
        tally: The counts of the run; each look adds to them.
        phase: The part of the run that goes on.
        backend: The backend's state at the last look; ``None`` where it was away.
        workers: Process ids of the workers that were alive at the last look, ascending.
    """

    def __init__(
        self,
        admin: LogAdmin,
        presence: PresenceStore,
        namespace: str,
        socket: str,
        clock: Clock,
    ) -> None:
        self._admin, self._presence = admin, presence
        self._socket, self._clock = socket, clock
        self._lanes = [Lane(namespace, QUEUE, p).name for p in Priority]
        self._dead_letters = dead_letter_topic(namespace, QUEUE)
        self._executions_read = self._dead_letters_read = 0
        self._waiting: Mapping[Priority, int] = {}
        self._oldest_age_s: Mapping[Priority, float] = {}
        self.tally, self.phase = Tally(), Phase.STARTING
        self.backend: BackendState | None = None
        self.workers: tuple[int, ...] = ()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_EVERY_S)

    async def look(self) -> None:
        """Look once."""
        self.backend = await self._ask_backend()
        with contextlib.suppress(StoreError):
            depths = await self._admin.depths(self._lanes)
            await self._read_workers()
            await self._read_dead_letters()
            running = {} if self.backend is None else self.backend.running
            self._waiting = _waiting(depths, running)
            self._oldest_age_s = _ages(depths, self._clock.epoch_ms())
            if self.tally.began_at:
                second = self._clock.monotonic() - self.tally.began_at
                self.tally.waiting.append((second, self._waiting))

    async def left(self) -> dict[Priority, int]:
        """How many records of each lane are not settled, or wait for their due time.

        Raises:
            StoreError: The log does not answer.
        """
        return _waiting(await self._admin.depths(self._lanes), {})

    def note(self, event: str) -> None:
        """Record an event at this moment."""
        self.tally.note(event, self._clock.monotonic())

    def frame(self, length_s: float, speed: float) -> Frame:
        """The run as it is now.

        Args:
            length_s: How long jobs are offered.
            speed: Trace seconds a second.
        """
        began_at, backend = self.tally.began_at, self.backend
        elapsed_s = max(0.0, self._clock.monotonic() - began_at) if began_at else 0.0
        rows = tuple(self._row(p, int(elapsed_s) + 1) for p in Priority)
        return Frame(
            phase=self.phase,
            elapsed_s=elapsed_s,
            length_s=length_s,
            speed=speed,
            rows=rows,
            is_down=None if backend is None else backend.is_down,
            running=0 if backend is None else sum(backend.running.values()),
            slots=0 if backend is None else backend.slots,
            workers=self.workers,
            dead_letters=sum(row.dead for row in rows),
            events=tuple(self.tally.events[-_LAST_EVENTS:]),
        )

    def _row(self, priority: Priority, seconds: int) -> PriorityFrame:
        counts = self.tally.row(priority, self._waiting.get(priority, 0))
        return PriorityFrame(
            priority=priority,
            offered=counts.offered,
            executed=counts.executed,
            waiting=counts.waiting,
            oldest_age_s=self._oldest_age_s.get(priority),
            dead=counts.dead,
            offered_per_s=tuple(self.tally.offered_per_s(priority, seconds)),
            executed_per_s=tuple(self.tally.executed_per_s(priority, seconds)),
        )

    async def _ask_backend(self) -> BackendState | None:
        # One answer holds a bounded number of executions: ask until none is left.
        while True:
            command = Command("look", since=self._executions_read)
            state = await ask(self._socket, command, BackendState)
            if state is None or not state.executions:
                return state
            self.tally.execute(state.executions)
            self._executions_read += len(state.executions)

    async def _read_workers(self) -> None:
        reports = await self._presence.workers()
        # The report of a killed process stays for a while; the process is gone at once.
        workers = tuple(sorted(r.pid for r in reports if _is_alive(r.pid)))
        for pid in set(workers) - set(self.workers):
            if self.tally.began_at:
                self.note(f"worker {pid} started")
        self.workers = workers

    async def _read_dead_letters(self) -> None:
        if await self._admin.count(self._dead_letters) == self._dead_letters_read:
            return
        count = 0
        async for batch in self._admin.scan(self._dead_letters):
            for delivery in batch:
                count += 1
                letter = read_dead_letter(delivery.headers)
                if letter is not None and letter.job_id is not None:
                    self.tally.dead.add(letter.job_id)
        self._dead_letters_read = count


@contextlib.asynccontextmanager
async def open_watcher(
    settings: Settings, socket: str, clock: Clock
) -> AsyncGenerator[Watcher]:
    """Open a watcher with its own connections.

    Args:
        settings: The run's log and state store.
        socket: Path of the backend's socket.
        clock: Clock of the run.
    """
    admin, presence = wiring.open_admin(settings), wiring.open_presence(settings)
    try:
        yield Watcher(admin, presence, settings.namespace, socket, clock)
    finally:
        await presence.close()
        await admin.close()


def _waiting(
    depths: Sequence[LaneDepth], running: Mapping[str, int]
) -> dict[Priority, int]:
    # A record that runs is not settled yet, but it no longer waits.
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


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
