"""Progress on standard error: a bar on a terminal, else a line every few seconds.

Data belongs to standard output, so that a pipe gets data alone.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from shifter.cli.output import note
from shifter.deadletter.reader import OnProgress, ScanProgress
from shifter.ports import Clock, LaneDepth
from shifter.telemetry import Event, Log

_REDRAW_S: Final = 0.25
# Lines go to a log file or a collector, where one a second would bury the rest.
_LINE_EVERY_S: Final = 5.0
# A bar that is gone again within a second would only distract.
_SCAN_SHOWN_AFTER_S: Final = 1.0
# Allocations between two runs of the collector, instead of Python's 700 to 2,000.
_SCAN_GARBAGE: Final = 200_000
# A run waits for live jobs in short steps; only a wait that lasts is worth a word.
_HELD_S: Final = 1.0


class Reading(NamedTuple):
    """How far something is.

    Attributes:
        what: The work, in a word or two.
        done: Part that is done.
        total: The whole, in the same unit; ``None`` while it is not known.
        numbers: Text beside the bar; by default ``done/total``.
    """

    what: str
    done: float
    total: float | None
    numbers: str | None = None


class ProgressDisplay:
    """Shows readings, no more often than a person can read them.

    Args:
        clock: Paces the drawing.
        out: Where to draw.
        line: Called with a reading every five seconds where ``out`` is no terminal.
        bar_after_s: Seconds from now until the bar appears.
        line_after_s: Seconds from now until the first line.
        is_transient: Whether the bar disappears at the end.
    """

    def __init__(  # one keyword an option
        self,
        clock: Clock,
        out: TextIO,
        line: Callable[[Reading], None],
        *,
        bar_after_s: float = 0.0,
        line_after_s: float = _LINE_EVERY_S,
        is_transient: bool = False,
    ) -> None:
        self._clock, self._line = clock, line
        self._console = Console(file=out)
        self._is_transient = is_transient
        self._bar: Progress | None = None
        self._has_bar = out.isatty()
        first_s = bar_after_s if self._has_bar else line_after_s
        self._next_at = clock.monotonic() + first_s

    def show(self, reading: Reading) -> None:
        """Show a reading, if it is time to."""
        now = self._clock.monotonic()
        if now < self._next_at:
            return
        if self._has_bar:
            self._next_at = now + _REDRAW_S
            self._draw(reading)
        else:
            self._next_at = now + _LINE_EVERY_S
            self._line(reading)

    async def follow(self, read: Callable[[], Reading]) -> None:
        """Show a new reading again and again, until cancelled."""
        with self:
            while True:
                self.show(read())
                await self._clock.sleep(_REDRAW_S)

    def _draw(self, reading: Reading) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(
                *columns,
                console=self._console,
                auto_refresh=False,
                transient=self._is_transient,
            )
            self._bar.start()
            self._bar.add_task("", total=None, numbers="")
        numbers = reading.numbers
        if numbers is None:
            whole = "?" if reading.total is None else f"{reading.total:g}"
            numbers = f"{reading.done:g}/{whole}"
        self._bar.update(
            self._bar.task_ids[0],
            description=reading.what,
            completed=reading.done,
            total=reading.total,
            numbers=numbers,
            refresh=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextlib.contextmanager
def scan_progress(what: str, clock: Clock) -> Generator[OnProgress]:
    """Show a scan or a run; one that ends within a second shows nothing.

    Args:
        what: The work, one word.
        clock: Paces the drawing.

    Yields:
        A function that is called with each `ScanProgress`.
    """
    counts: dict[str, int] = {}

    def line(reading: Reading) -> None:
        found = "".join(f", {count} {name}" for name, count in counts.items())
        note(f"{reading.what}: {reading.done:g} of {reading.total:g}{found}")

    def on_progress(progress: ScanProgress) -> None:
        nonlocal counts
        counts = progress.counts
        doing = what
        if progress.held_s >= _HELD_S:
            waited = f"jobs of that lane wait for {progress.held_s:.0f} s"
            doing = f"{what}, making room ({waited})"
        display.show(Reading(doing, progress.looked_at, progress.total))

    display = ProgressDisplay(
        clock,
        sys.stderr,
        line,
        bar_after_s=_SCAN_SHOWN_AFTER_S,
        line_after_s=_SCAN_SHOWN_AFTER_S,
        is_transient=True,
    )
    # A scan makes millions of short-lived records, none of them in a cycle: the
    # collector would look at them for a third of the time.
    thresholds = gc.get_threshold()
    gc.set_threshold(_SCAN_GARBAGE)
    try:
        with display:
            yield on_progress
    finally:
        gc.set_threshold(*thresholds)


class BurstProgress:
    """Shows what is left of the lanes that a burst drains, until cancelled.

    Args:
        depths: Depths of the lanes; another task renews them.
        clock: Paces the drawing.
        out: Where to draw.
    """

    def __init__(self, depths: Sequence[LaneDepth], clock: Clock, out: TextIO) -> None:
        self._depths, self._most, self._log = depths, 0, Log()
        self._display = ProgressDisplay(clock, out, self._write)

    async def run(self) -> None:
        """Draw until cancelled."""
        await self._display.follow(self._read)

    def counted(self) -> tuple[int, int]:
        """Records done and records seen so far.

        The second grows when more arrive while the burst runs.
        """
        left = sum(self._left())
        self._most = max(self._most, left)
        return self._most - left, self._most

    def _left(self) -> tuple[int, int]:
        """Waiting and delayed records; a delay that is not counted counts as none."""
        waiting = sum(depth.waiting for depth in self._depths)
        return waiting, sum(depth.delayed or 0 for depth in self._depths)

    def _read(self) -> Reading:
        done, total = self.counted()
        return Reading("draining", done, total or None)

    def _write(self, reading: Reading) -> None:
        waiting, delayed = self._left()
        self._log.info(
            Event.BURST_PROGRESSED,
            done=int(reading.done),
            waiting=waiting,
            delayed=delayed,
        )
