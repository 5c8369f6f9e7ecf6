"""Paces LOW jobs with deadlines in one worker; see `shifter.policy.schedule.pace`.

A lane is paced while every job that waits in it has a deadline and all that waits of it
fits into memory. It is not paced before the first job of the worker has ended, since
the cost of a job is not known. In the dark the pace is computed, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from shifter.model.lane import Lane, Priority
from shifter.policy.schedule.pace import (
    Pace,
    PacePolicy,
    UrgentUse,
    observe_urgent,
    pace,
)
from shifter.ports import Clock
from shifter.work.buffer import Buffer
from shifter.work.item import Item
from shifter.work.state import DrainState

_EVERY_S: Final = 0.5
_KEPT: Final = 0.95
"""How much of the mean cost stays with each job that ends: about the last 20 count."""
_MOST: Final = 2_000
"""Jobs that wait in memory, of all lanes; where more do, they are not paced."""


def make_pacer(
    state: DrainState,
    lanes: Mapping[str, Lane],
    *,
    pace: str,
    running: Callable[[], Mapping[str, int]],
    opened: Callable[[], None],
    urgent: Callable[[], float] | None,
) -> Pacer | None:
    """The pacer of a worker by the setting ``pace``; ``None`` while it is off.

    Args:
        state: What the stages of the worker share.
        lanes: Lanes served, by topic.
        pace: ``off``, ``dark`` or ``on``.
        running: See `Pacer`.
        opened: See `Pacer`.
        urgent: See `Pacer`.
    """
    if pace == "off":
        return None
    return Pacer(
        clock=state.clock,
        buffer=state.buffer,
        lanes=lanes,
        running=running,
        opened=opened,
        is_dark=pace == "dark",
        urgent=urgent,
    )


@dataclass(kw_only=True, eq=False)
class Pacer:
    """Owned by one event loop.

    Attributes:
        clock: Reads and waits.
        buffer: Where jobs wait.
        lanes: Lanes served, by topic.
        running: Attempts that run or are about to, by topic.
        opened: Called when more may start.
        is_dark: Whether nothing is made to wait.
        urgent: Slots that more urgent work uses elsewhere, of what the jobs use too.
        policy: The settings.
        answer: The last pace; ``None`` before the first.
    """

    clock: Clock
    buffer: Buffer
    lanes: Mapping[str, Lane]
    running: Callable[[], Mapping[str, int]]
    opened: Callable[[], None]
    is_dark: bool = False
    urgent: Callable[[], float] | None = None
    policy: PacePolicy = field(default_factory=PacePolicy)
    answer: Pace | None = None

    def __post_init__(self) -> None:
        self._low = {t for t, one in self.lanes.items() if one.priority is Priority.LOW}
        self._use: UrgentUse | None = None
        self._cost_s: float | None = None

    async def run(self) -> NoReturn:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            self.opened()
            await self.clock.sleep(_EVERY_S)

    def look(self) -> None:
        """Set how many jobs may start now."""
        running, now_s = self.running(), self.clock.monotonic()
        used = float(sum(n for topic, n in running.items() if topic not in self._low))
        used += 0.0 if self.urgent is None else self.urgent()
        at_ms = self.clock.epoch_ms()
        self._use = use = observe_urgent(
            self.policy, self._use, used, now_s=now_s, at_ms=at_ms
        )
        left_s = [(at - at_ms) / 1_000 for at in self.buffer.deadlines_ms(self._low)]
        if self._cost_s is None or len(left_s) >= _MOST:
            self.answer = None
            self.buffer.allow(None)
            return
        left_s.sort()
        self.answer = pace(self.policy, use, left_s, cost_s=self._cost_s, at_ms=at_ms)
        if not self.is_dark:
            self.buffer.allow(self._more(running), self._low)

    def ended(self, item: Item, took_s: float) -> None:
        """Note that an attempt ended: the next one may start.

        Args:
            item: What ran.
            took_s: For how long, seconds.
        """
        if item.delivery.topic not in self._low:
            return
        before, took_s = self._cost_s, max(took_s, 0.001)
        self._cost_s = took_s if before is None else took_s + _KEPT * (before - took_s)
        if before is None:
            self.look()
        elif self.answer is not None and not self.is_dark:
            self.buffer.allow(self._more(self.running()), self._low)

    def parts(self) -> Mapping[str, float]:
        """The last pace with what decided it, by name; empty where nothing is paced."""
        answer = self.answer
        if answer is None:
            return {}
        return {
            "allowed": answer.slots,
            "needed": answer.needed,
            "spread": answer.spread,
            "usual": answer.usual,
            "urgent": answer.urgent,
        }

    def _more(self, running: Mapping[str, int]) -> int:
        """How many jobs may start; those that run are counted off."""
        slots = 0 if self.answer is None else self.answer.slots
        return max(0, slots - sum(running.get(topic, 0) for topic in self._low))
