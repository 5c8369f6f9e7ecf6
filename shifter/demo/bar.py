"""How far a run is, where nobody watches the whole view: on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from shifter.demo.frame import Frame
from shifter.ports import Clock

_REDRAW_S: Final = 0.25
_SAY_EVERY_S: Final = 5.0


class ProgressBar:
    """A bar on a terminal, else a line every few seconds.

    Args:
        out: Where to draw; standard error, since data belongs to standard output.
        clock: Paces the drawing.
    """

    def __init__(self, out: TextIO, clock: Clock) -> None:
        self._out, self._clock = out, clock

    async def run(
        self,
        frame: Callable[[], Frame],
        press: Callable[[str], None],  # noqa: ARG002  # nobody can press a key here
    ) -> None:
        """Draw until cancelled."""
        if self._out.isatty():
            await self._draw(frame)
        else:
            await self._say(frame)

    async def _draw(self, frame: Callable[[], Frame]) -> None:
        columns = TextColumn("{task.description:>8}"), BarColumn()
        numbers = TextColumn("{task.fields[numbers]}")
        console = Console(file=self._out)
        with Progress(*columns, numbers, console=console, auto_refresh=False) as bar:
            task = bar.add_task("", total=None, numbers="")
            while True:
                now = frame()
                bar.update(
                    task,
                    description=now.phase.value,
                    completed=min(now.elapsed_s, now.length_s),
                    total=now.length_s,
                    numbers=_numbers(now),
                    refresh=True,
                )
                await self._clock.sleep(_REDRAW_S)

    async def _say(self, frame: Callable[[], Frame]) -> None:
        while True:
            await self._clock.sleep(_SAY_EVERY_S)
            now = frame()
            self._out.write(
                f"{now.phase.value} {now.elapsed_s:.0f} s: {_numbers(now)}\n"
            )
            self._out.flush()


def _numbers(frame: Frame) -> str:
    offered = sum(row.offered for row in frame.rows)
    executed = sum(row.executed for row in frame.rows)
    waiting = sum(row.waiting for row in frame.rows)
    return f"{offered} offered, {executed} executed, {waiting} waiting"
