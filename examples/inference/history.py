"""What must hold of every history, whatever the numbers: C7, C8 and C13.

- C7: nothing starts after its deadline.
- C8: nothing starts before it is due; here, before it was asked for.
- C13: no class is shed for want of room while a lower one is let in within the same
  decision window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_ROUNDING_S = 0.001
_FOR_WANT_OF_ROOM = ("overloaded", "limit_reached")


class Decided(NamedTuple):
    """One decision."""

    window: int
    rank: int
    verdict: str
    reason: str


class Asked(NamedTuple):
    """One question: from when to when its job may start, in seconds of one clock."""

    due_at_s: float
    deadline_at_s: float


class Started(NamedTuple):
    """One start of a handler or a fallback."""

    number: int
    at_s: float


class Check(NamedTuple):
    """What a checker found.

    Attributes:
        checked: Of how many starts, or refusals.
        violations: How many were against it.
    """

    checked: int
    violations: int


def check(
    asked: Mapping[int, Asked], started: Iterable[Started], decided: Iterable[Decided]
) -> dict[str, Check]:
    """All three, by name."""
    starts, decisions = list(started), list(decided)
    late = sum(s.at_s > asked[s.number].deadline_at_s + _ROUNDING_S for s in starts)
    early = sum(s.at_s < asked[s.number].due_at_s - _ROUNDING_S for s in starts)
    refusals = sum(map(_is_want_of_room, decisions))
    return {
        "C7": Check(len(starts), late),
        "C8": Check(len(starts), early),
        "C13": Check(refusals, inversions(decisions)),
    }


def inversions(history: Iterable[Decided]) -> int:
    """Sheds for want of room in whose window a lower class was let in.

    For jobs of one queue, where a deferral counts as much as a run.
    """
    by_window: dict[int, list[Decided]] = defaultdict(list)
    for decided in history:
        by_window[decided.window].append(decided)
    return sum(
        1
        for window in by_window.values()
        for shed in filter(_is_want_of_room, window)
        if any(o.rank < shed.rank and o.verdict in ("run", "defer") for o in window)
    )


def _is_want_of_room(decided: Decided) -> bool:
    return decided.verdict == "shed" and decided.reason in _FOR_WANT_OF_ROOM
