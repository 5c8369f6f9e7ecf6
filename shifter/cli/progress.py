"""How far a burst is: a bar on a terminal, else a log line every few seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from shifter.ports import Clock, LaneDepth
from shifter.telemetry import Event, Log

_REDRAW_S: Final = 0.25
_LOG_EVERY_S: Final = 5.0


class Left(NamedTuple):
    """What a burst still has to do.

    Attributes:
        waiting: Records appended and not settled.
        delayed: Records that wait for their due time.
    """

    waiting: int
    delayed: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.waiting + self.delayed


def left_of(depths: Sequence[LaneDepth]) -> Left:
    """What these lanes still hold; a delay that is not counted counts as none."""
    return Left(
        sum(depth.waiting for depth in depths),
        sum(depth.delayed or 0 for depth in depths),
    )


class BurstProgress:
    """Shows what is left of the lanes a burst drains, until cancelled.

    Args:
        depths: Filled by whoever looks at the lanes; only read here.
        clock: Paces the drawing.
        out: Where to draw; standard error, since data belongs to standard output.
    """

    def __init__(self, depths: Sequence[LaneDepth], clock: Clock, out: TextIO) -> None:
        self._depths, self._clock, self._out = depths, clock, out
        self._most = 0

    async def run(self) -> None:
        """Draw until cancelled."""
        if self._out.isatty():
            await self._draw()
        else:
            await self._log()

    def counted(self) -> tuple[int, int]:
        """Records done and records known of, so far.

        The second grows when more arrive while the burst runs.
        """
        left = left_of(self._depths).total
        self._most = max(self._most, left)
        return self._most - left, self._most

    async def _draw(self) -> None:
        columns = (
            TextColumn("draining"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(file=self._out)
        with Progress(*columns, console=console, auto_refresh=False) as bar:
            task = bar.add_task("draining", total=None)
            while True:
                done, total = self.counted()
                bar.update(task, completed=done, total=total or None, refresh=True)
                await self._clock.sleep(_REDRAW_S)

    async def _log(self) -> None:
        log = Log()
        while True:
            await self._clock.sleep(_LOG_EVERY_S)
            done, _ = self.counted()
            left = left_of(self._depths)
            log.info(
                Event.BURST_PROGRESSED,
                done=done,
                waiting=left.waiting,
                delayed=left.delayed,
            )
