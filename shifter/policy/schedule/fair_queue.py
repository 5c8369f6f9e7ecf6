"""Start-time fair queueing: shares slots between those that wait, by what a slot costs.

Each keeps its lead: how far its virtual time is ahead of the minimum. The one with the
smallest lead goes next, and a slot adds its cost to the lead. One that returns after a
pause starts level with the minimum, so none saves up slots, and none gains by emptying
and refilling its queue. A batch of slots is decided at once, by a search for the level
that the leads may reach, with exactly the answer of one slot at a time.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=str)


def split(
    ahead: Mapping[Key, int],
    waiting: Mapping[Key, int],
    costs: Sequence[int],
    slots: int,
) -> tuple[dict[Key, int], dict[Key, int]]:
    """Let the one that is least ahead go next, ``slots`` times.

    Args:
        ahead: Virtual-time lead of each over the minimum; zero leads are omitted.
        waiting: How many wait, > 0 each.
        costs: What a slot costs each of those that wait, >= 1.
        slots: >= 0.

    Returns:
        The leads after that, and how many slots each got, > 0.
    """
    if slots >= sum(waiting.values()):
        # None is left waiting, so none is owed a slot.
        return {}, dict(waiting)
    if len(waiting) == 1:
        # One that waits alone gets all slots: its next start is the level.
        [key] = waiting
        level = ahead.get(key, 0) + slots * costs[0]
        after = {other: tag - level for other, tag in ahead.items() if tag > level}
        return after, {key: slots} if slots else {}
    starts = [ahead.get(key, 0) for key in waiting]
    lines = list(zip(starts, costs, waiting.values(), strict=True))
    level = _level(lines, slots)
    left = slots - _begun_below(level, lines)
    after = {name: tag - level for name, tag in ahead.items() if tag > level}
    given: dict[Key, int] = {}
    for key, (start, cost, number) in zip(waiting, lines, strict=True):
        count = min(number, -((start - level) // cost)) if start < level else 0
        if left and count < number and start + count * cost == level:
            count += 1
            left -= 1
        if count:
            given[key] = count
            after[key] = start + count * cost - level
    return {key: tag for key, tag in after.items() if tag > 0}, given


def _level(lines: Sequence[tuple[int, int, int]], slots: int) -> int:
    """The smallest start of those that still wait once ``slots`` have begun.

    Args:
        lines: For each its lead, what a slot costs it, and how many wait.
        slots: Less than all that wait.
    """
    rate = spent = 0.0
    for start, cost, _ in lines:
        rate += 1 / cost
        spent += start / cost
    # The answer if no queue runs empty and all take part; it shortens the search.
    even = int((slots + spent) / rate)
    low, high = max(0, even - int(len(lines) / rate) - 1), even + 1
    if _begun_below(low, lines) > slots:
        low = 0
    if _begun_below(high, lines) <= slots:
        high = max(start + cost * waiting for start, cost, waiting in lines)

    def begun(level: int) -> int:
        return _begun_below(level, lines)

    return bisect_right(range(high), slots, low, high, key=begun) - 1


def _begun_below(level: int, lines: Sequence[tuple[int, int, int]]) -> int:
    """How many of those that wait have a start below the level."""
    begun = 0
    for start, cost, waiting in lines:
        if start < level:
            count = -((start - level) // cost)
            begun += min(count, waiting)
    return begun
