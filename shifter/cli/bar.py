"""How far a scan or a run is: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import gc
import sys
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as RichProgress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from shifter.cli.output import note
from shifter.deadletter.reader import ScanProgress
from shifter.ports import Clock

_SHOWN_AFTER_S: Final = 1.0
_REDRAW_S: Final = 0.25
_LINE_EVERY_S: Final = 5.0
_GARBAGE: Final = 200_000
_HELD_S: Final = 1.0


class Bar:
    """Call it with each `ScanProgress`; what ends within a second shows nothing.

    Args:
        what: What is being done, one word.
        clock: Paces the drawing.
    """

    def __init__(self, what: str, clock: Clock) -> None:
        self._what, self._clock = what, clock
        self._console = Console(file=sys.stderr)
        self._started_at = clock.monotonic()
        self._next_at = self._started_at + _SHOWN_AFTER_S
        self._rich: RichProgress | None = None
        self._thresholds = gc.get_threshold()

    def __call__(self, progress: ScanProgress) -> None:
        """Show where it is, if it is time to."""
        now = self._clock.monotonic()
        if now < self._next_at:
            return
        if self._console.is_terminal:
            self._next_at = now + _REDRAW_S
            self._draw(progress)
        else:
            self._next_at = now + _LINE_EVERY_S
            told = "".join(
                f", {count} {name}" for name, count in progress.counts.items()
            )
            what = self._doing(progress)
            note(f"{what}: {progress.looked_at} of {progress.total}{told}")

    def _draw(self, progress: ScanProgress) -> None:
        if self._rich is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._rich = RichProgress(
                *columns, console=self._console, auto_refresh=False, transient=True
            )
            self._rich.start()
            self._rich.add_task(self._what, total=progress.total)
        self._rich.update(
            self._rich.task_ids[0],
            completed=progress.looked_at,
            description=self._doing(progress),
            refresh=True,
        )

    def _doing(self, progress: ScanProgress) -> str:
        if progress.held_s < _HELD_S:
            return self._what
        waited = f"jobs of that lane wait for {progress.held_s:.0f} s"
        return f"{self._what}, making room ({waited})"

    def __enter__(self) -> Self:
        # A scan makes millions of short-lived records, none of them in a cycle: the
        # collector would look at them for a third of the time.
        gc.set_threshold(_GARBAGE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gc.set_threshold(*self._thresholds)
        if self._rich is not None:
            self._rich.stop()
