"""Why calls failed: the kind of failure, how many there were, and the last message.

A kind is the name of an exception's class. `CauseCounter` counts the failures of one
process, or of one endpoint, by kind over a window; `main_cause` combines the counts of
several processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

MAX_KIND_CHARS: Final = 100
"""Longest kind: a label of metrics and a column of a terminal hold it."""

MAX_TEXT_CHARS: Final = 200
"""Longest message: each process reports it to the fleet five times a second."""

SLOW_CALL: Final = "SlowCall"
"""The kind of a call that succeeded and took too long."""

_MOST_KINDS: Final = 8
"""Kinds that are told apart in one window; further ones are not counted."""


@dataclass(frozen=True, slots=True, order=True)
class FailureCause:
    """Why calls failed.

    Attributes:
        kind: The exception's class with its module, without ``builtins``; <= 100
            characters.
        count: Failures of this kind, >= 1.
        message: What the last of them said: one printable line, <= 200 characters.
        cooldown_ms: The first cooldown of a circuit that opens for this kind; 0 for
            the circuit's own.
        endpoint: The endpoint that failed; empty for the dependency as a whole.
    """

    kind: str
    count: int = 1
    message: str = ""
    cooldown_ms: int = 0
    endpoint: str = ""

    @property
    def text(self) -> str:
        """One line for people.

        >>> FailureCause("OSError", 5, "refused").text
        '5 x OSError: refused'
        """
        head = f"{self.count} x {self.kind}"
        return f"{head}: {self.message}" if self.message else head


class CauseCounter:
    """Counts failures by kind over a window. Belongs to one thread.

    Args:
        window: How long failures are counted.
    """

    __slots__ = ("_last", "_policy", "_window")

    def __init__(self, window: WindowPolicy) -> None:
        self._policy = window
        self._window: SlidingWindow | None = None  # most never see a failure
        self._last: list[FailureCause] = []

    def record(self, cause: FailureCause, now_ms: int) -> None:
        """Count one failure."""
        if self._window is None:
            self._window = SlidingWindow(self._policy, _MOST_KINDS)
        place = self._place(cause.kind, self._window.totals(now_ms))
        if place is not None:
            self._last[place] = cause
            self._window.add(now_ms, place)

    def main(self, now_ms: int) -> FailureCause | None:
        """The kind of most failures in the window; ``None`` without any."""
        if self._window is None:
            return None
        totals = self._window.totals(now_ms)
        pairs = zip(self._last, totals, strict=False)
        return main_cause(replace(one, count=count) for one, count in pairs if count)

    def clear(self) -> None:
        """Forget all failures."""
        self._window, self._last = None, []

    def _place(self, kind: str, totals: Iterable[int]) -> int | None:
        """The column of a kind: its own, a new one, or one that is empty by now."""
        for place, known in enumerate(self._last):
            if known.kind == kind:
                return place
        if len(self._last) < _MOST_KINDS:
            self._last.append(FailureCause(kind))
            return len(self._last) - 1
        return next((place for place, count in enumerate(totals) if not count), None)


def main_cause(causes: Iterable[FailureCause]) -> FailureCause | None:
    """The kind of most failures. Pure.

    Of kinds with equally many failures the one with the longest cooldown is taken, then
    the first by name: processes with the same evidence name the same kind.

    Args:
        causes: What some processes counted; one kind may come several times.

    Returns:
        The kind with the sum of its counts and its longest cooldown; ``None`` for none.

    >>> one, two = FailureCause("OSError", 2), FailureCause("ValueError", 3)
    >>> main_cause([one, two, one]).text
    '4 x OSError'
    """
    by_kind: dict[str, FailureCause] = {}
    for cause in causes:
        known = by_kind.get(cause.kind)
        if known is not None:
            longest_ms = max(known.cooldown_ms, cause.cooldown_ms)
            count = known.count + cause.count
            by_kind[cause.kind] = replace(known, count=count, cooldown_ms=longest_ms)
        else:
            by_kind[cause.kind] = cause
    # Sorted by name first: of equals, `max` returns the first.
    found = sorted(by_kind.values())
    return max(found, key=lambda one: (one.count, one.cooldown_ms), default=None)
