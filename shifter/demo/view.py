"""The live view: one frame as a picture of 24 lines of 80 columns, and its keys.

It grows with the terminal; the line of keys is always the last one. Where a terminal
cannot show block characters, or is asked not to show colours (``NO_COLOR``, obeyed by
rich), the same picture comes without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import termios
import tty
from collections.abc import Callable, Generator, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shifter.demo.deployment import PROCESSES
from shifter.demo.run import KEYS
from shifter.demo.watch import Frame, Phase, PriorityFrame
from shifter.model.lane import Priority
from shifter.ops.sparkline import condense, meter, sparkline
from shifter.ports import Clock

_REDRAW_S: Final = 0.25
_NUMBERS_WIDTH: Final = 53
_STYLES: Final = {
    Priority.CRITICAL: "red",
    Priority.HIGH: "dark_orange3",
    Priority.NORMAL: "blue",
    Priority.LOW: "green",
}
_HELP: Final = (
    ("b", "break backend"),
    ("h", "heal"),
    ("p", "poison jobs"),
    ("k", "kill -9 a worker"),
    ("q", "end"),
)


class LiveView:
    """Draws frames on a terminal and reads its keys.

    Args:
        console: The terminal.
        clock: Paces the drawing.
    """

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock

    async def run(
        self, frame: Callable[[], Frame], press: Callable[[str], None]
    ) -> None:
        """Draw until cancelled; the terminal is then as it was."""
        with (
            pressed_keys(press),
            Live(
                self._picture(frame()),
                console=self._console,
                auto_refresh=False,
                screen=True,
            ) as live,
        ):
            while True:
                live.update(self._picture(frame()), refresh=True)
                await self._clock.sleep(_REDRAW_S)

    def _picture(self, frame: Frame) -> RenderableType:
        options = self._console.options
        return picture(frame, width=options.max_width, ascii_only=options.ascii_only)


def picture(frame: Frame, *, width: int, ascii_only: bool = False) -> Layout:
    """One frame.

    Args:
        frame: The run at one moment.
        width: Columns; 80 or more show everything.
        ascii_only: Whether block characters cannot be shown.
    """
    # A small terminal cuts off the bottom of the body, never the line of keys.
    body = Group(
        _head(frame, width, ascii_only=ascii_only),
        Text(),
        _priorities(frame, width, ascii_only=ascii_only),
        Text(),
        _parts(frame, ascii_only=ascii_only),
        Text(),
        _events(frame),
    )
    layout = Layout()
    layout.split_column(Layout(body, ratio=1), Layout(_help(), size=1))
    return layout


def _head(frame: Frame, width: int, *, ascii_only: bool) -> RenderableType:
    title = Text("shifter demo", style="bold", no_wrap=True, overflow="ellipsis")
    title.append(
        f"  two recorded inference services, {frame.speed:g} times as fast", "not bold"
    )
    seconds = f" {min(frame.elapsed_s, frame.length_s):3.0f}/{frame.length_s:.0f} s"
    line = Text(f"{frame.phase.value:<9}", no_wrap=True)
    share = min(1.0, frame.elapsed_s / frame.length_s)
    bar_width = max(1, width - 9 - len(seconds))
    line.append(meter(share, bar_width, ascii_only=ascii_only), "cyan")
    line.append(seconds)
    return Group(title, line)


def _priorities(frame: Frame, width: int, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("PRIORITY", width=9, no_wrap=True)
    for heading in ("OFFERED", "EXECUTED", "WAITING", "OLDEST", "DEAD"):
        table.add_column(heading, justify="right", width=8, no_wrap=True)
    table.add_column("OFFERED/S, EXECUTED/S", ratio=1, no_wrap=True)
    spark_width = max(1, width - _NUMBERS_WIDTH - 5)
    for row in frame.rows:
        _add(table, _condensed(row, spark_width, frame), ascii_only=ascii_only)
    return table


def _condensed(row: PriorityFrame, width: int, frame: Frame) -> PriorityFrame:
    length = math.ceil(frame.length_s)
    return row._replace(
        offered_per_s=tuple(condense(row.offered_per_s, width, length=length)),
        executed_per_s=tuple(condense(row.executed_per_s, width, length=length)),
    )


def _add(table: Table, row: PriorityFrame, *, ascii_only: bool) -> None:
    most = max(1, *row.offered_per_s, *row.executed_per_s)

    def spark(per_s: Sequence[int]) -> str:
        width = max(1, len(per_s))
        return sparkline(per_s, width, most=most, ascii_only=ascii_only)

    age = "-" if row.oldest_age_s is None else f"{row.oldest_age_s:.1f} s"
    style = _STYLES[row.priority]
    table.add_row(
        Text(row.priority.value, style=f"bold {style}"),
        f"{row.offered}",
        f"{row.executed}",
        Text(f"{row.waiting}", style="bold" if row.waiting else ""),
        age,
        Text(f"{row.dead}", style="red" if row.dead else ""),
        Text(spark(row.offered_per_s), style="bright_black"),
    )
    table.add_row("", "", "", "", "", "", Text(spark(row.executed_per_s), style=style))


def _parts(frame: Frame, *, ascii_only: bool) -> RenderableType:
    backend = Text("backend  ", no_wrap=True)
    word, style = _backend(frame)
    backend.append(f"{word:<8}", style)
    share = frame.running / frame.slots if frame.slots else 0.0
    backend.append(meter(share, 20, ascii_only=ascii_only), style)
    backend.append(f" {frame.running}/{frame.slots} slots busy")
    alive = len(frame.workers)
    workers = Text("workers  ", no_wrap=True)
    workers.append(
        f"{alive} of {PROCESSES} alive ", "green" if alive >= PROCESSES else "bold red"
    )
    workers.append(" ".join(f"pid {pid}" for pid in frame.workers), "bright_black")
    letters = Text("dead-letter topic  ", no_wrap=True)
    letters.append(f"{frame.dead_letters}", "bold red" if frame.dead_letters else "")
    return Group(backend, workers, letters)


def _backend(frame: Frame) -> tuple[str, str]:
    if frame.is_down is None:
        return "-", ""
    if frame.is_down:
        return "DOWN", "bold red"
    return ("BUSY", "yellow") if frame.running >= frame.slots else ("UP", "green")


def _events(frame: Frame) -> Text:
    if not frame.events and frame.phase is Phase.STARTING:
        return Text("starting the backend and two worker processes ...")
    text = Text(no_wrap=True, overflow="ellipsis")
    # Newest first: what a small terminal cuts off is the past.
    for at_s, event in reversed(frame.events):
        text.append(f"{at_s:6.1f} s  ", "bright_black")
        text.append(f"{event}\n")
    return text


def _help() -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for key, action in _HELP:
        line.append(f" {key} ", "reverse")
        line.append(f" {action}  ")
    return line


@contextlib.contextmanager
def pressed_keys(press: Callable[[str], None]) -> Generator[None]:
    """Hand over the action of every key pressed while the block runs.

    Ctrl-C stays a signal. Keys without an action are ignored. The terminal's settings
    are restored on every way out.
    """
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    loop = asyncio.get_running_loop()

    def on_key() -> None:
        pressed = os.read(source, 64)
        if not pressed:
            # A terminal that is gone would be readable for ever.
            loop.remove_reader(source)
        for key in pressed.decode("ascii", "ignore").lower():
            if key in KEYS:
                press(KEYS[key])

    tty.setcbreak(source)
    loop.add_reader(source, on_key)
    try:
        yield
    finally:
        loop.remove_reader(source)
        # TCSADRAIN would wait for the output of a terminal that is stopped.
        termios.tcsetattr(source, termios.TCSANOW, before)
