"""Limits log lines of a kind, however often an event happens.

A topic full of bad records must not fill the disk with log lines. So each kind of line
(an event and the values that distinguish its causes) may be written a number of times a
window; further lines are counted, and the count is written at the end of the window.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from shifter.telemetry.event import Event
from shifter.telemetry.log import Log

LINES: Final = 20
"""Lines of a kind in a window; more repeat what a reader has seen."""

WINDOW_S: Final = 10.0

MAX_KINDS: Final = 200
"""Kinds told apart at once; further ones share the window of their event.

Causes come from records, and anybody may write those.
"""


class _Window:
    """The lines of one kind since an instant."""

    __slots__ = ("facts", "left_out", "level", "since", "written")

    def __init__(self, level: int, facts: dict[str, Any], since: float) -> None:
        self.level, self.facts, self.since = level, facts, since
        self.written = self.left_out = 0


class LineKind(NamedTuple):
    """A kind of line.

    Attributes:
        event: What happened.
        causes: Values that distinguish causes, such as lane and reason.
    """

    event: Event
    causes: tuple[str, ...] = ()


class LimitedLog:
    """A log that writes at most `LINES` lines of a kind in `WINDOW_S` seconds.

    Owned by one thread. Its owner calls `write_left_out` every few seconds.

    Args:
        log: Where lines go.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._windows: dict[LineKind, _Window] = {}

    def write(
        self,
        level: int,
        event: Event,
        facts: dict[str, Any],
        *,
        by: tuple[str, ...],
        now: float,
        most: int = LINES,
    ) -> None:
        """Write a line, or count it where there were enough of its kind.

        Args:
            level: As of the standard library.
            event: What happened.
            facts: The line's fields.
            by: Names of the fields that distinguish causes.
            now: Monotonic seconds.
            most: Lines of the kind in a window, >= 1.
        """
        causes = {name: facts[name] for name in by if name in facts}
        kind = LineKind(event, tuple(map(str, causes.values())))
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                kind, causes = LineKind(event), {}
            window = self._windows.setdefault(kind, _Window(level, causes, now))
        elif now >= window.since + WINDOW_S:
            self._close(kind, window)
            window = self._windows[kind] = _Window(level, causes, now)
        if window.written < most:
            window.written += 1
            self._log.write(level, event, **facts)
        else:
            window.left_out += 1

    def write_left_out(self, now: float) -> None:
        """Write how many lines were left out of windows that have ended."""
        for kind, window in list(self._windows.items()):
            if now >= window.since + WINDOW_S:
                del self._windows[kind]
                self._close(kind, window)

    def close(self) -> None:
        """Write the counts so far, since the process ends."""
        self.write_left_out(float("inf"))

    def _close(self, kind: LineKind, window: _Window) -> None:
        if window.left_out:
            self._log.write(
                window.level,
                Event.LINES_LEFT_OUT,
                of=kind.event.value,
                count=window.left_out,
                **window.facts,
            )
