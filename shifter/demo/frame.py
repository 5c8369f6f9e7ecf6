"""One picture of a run, as plain values: what the view draws and tests compare."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from shifter.demo.tally import Tally
from shifter.demo.watch import Watcher
from shifter.model.lane import Priority
from shifter.ports import Clock

_LAST_EVENTS: Final = 50


class Phase(StrEnum):
    """Where a run is."""

    STARTING = "starting"
    PLAYING = "playing"
    DRAINING = "draining"
    ENDING = "ending"


class PriorityFrame(NamedTuple):
    """One priority.

    Attributes:
        priority: Whose.
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
    """Everything at one moment.

    Attributes:
        phase: Where the run is.
        elapsed_s: Since the beginning of the play; 0 before.
        length_s: How long the play takes.
        speed: Trace seconds a second.
        rows: Most urgent first.
        is_down: Whether the backend is broken; ``None`` before it answered.
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


class Scene:
    """Makes frames of a run.

    Attributes:
        phase: Where the run is.
        watcher: What looks at it; ``None`` until there is one.
    """

    def __init__(
        self, tally: Tally, clock: Clock, length_s: float, speed: float
    ) -> None:
        self._tally, self._clock = tally, clock
        self._length_s, self._speed = length_s, speed
        self.phase = Phase.STARTING
        self.watcher: Watcher | None = None

    def frame(self) -> Frame:
        """The run as it is now."""
        began_at = self._tally.began_at
        elapsed_s = max(0.0, self._clock.monotonic() - began_at) if began_at else 0.0
        look = None if self.watcher is None else self.watcher.seen.backend
        return Frame(
            phase=self.phase,
            elapsed_s=elapsed_s,
            length_s=self._length_s,
            speed=self._speed,
            rows=tuple(self._row(p, int(elapsed_s) + 1) for p in Priority),
            is_down=None if look is None else look.is_down,
            running=0 if look is None else sum(look.running.values()),
            slots=0 if look is None else look.slots,
            workers=() if self.watcher is None else self.watcher.seen.workers,
            dead_letters=sum(self._tally.dead_by(p) for p in Priority),
            events=tuple(self._tally.events[-_LAST_EVENTS:]),
        )

    def _row(self, priority: Priority, seconds: int) -> PriorityFrame:
        tally, watcher = self._tally, self.watcher
        seen = None if watcher is None else watcher.seen
        return PriorityFrame(
            priority=priority,
            offered=tally.offered_by(priority),
            executed=tally.executed_by(priority),
            waiting=0 if seen is None else seen.waiting.get(priority, 0),
            oldest_age_s=None if seen is None else seen.oldest_age_s.get(priority),
            dead=tally.dead_by(priority),
            offered_per_s=tuple(tally.offered_per_s(priority, seconds)),
            executed_per_s=tuple(tally.executed_per_s(priority, seconds)),
        )
