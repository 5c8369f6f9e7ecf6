"""Sets of offsets, stored as ranges, which take little memory.

Pure. A range is ``(first, end)`` with ``end`` excluded.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from itertools import pairwise

Range = tuple[int, int]


class OffsetSet:
    """Offsets of one partition, as ranges that do not touch.

    >>> found = OffsetSet([(5, 7), (1, 3)])
    >>> found.add(3, 5)
    >>> list(found), 6 in found, 7 in found, len(found)
    ([(1, 7)], True, False, 6)
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in ranges:
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Add ``first`` up to ``end``, excluded; an empty range adds nothing."""
        if first >= end:
            return
        # Ranges that touch the new one are merged with it.
        low = bisect.bisect_left(self._ends, first)
        high = bisect.bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def first_gap(self, offset: int) -> int:
        """The first offset from ``offset`` on that is not in the set.

        >>> found = OffsetSet([(1, 4), (7, 9)])
        >>> found.first_gap(0), found.first_gap(2), found.first_gap(5)
        (0, 4, 5)
        """
        place = bisect.bisect_right(self._firsts, offset) - 1
        return max(offset, self._ends[place]) if place >= 0 else offset

    def count(self, first: int, end: int) -> int:
        """How many lie at ``first`` or behind it, and before ``end``.

        >>> OffsetSet([(1, 4), (7, 9)]).count(3, 8)
        2
        """
        low = bisect.bisect_right(self._ends, first)
        high = bisect.bisect_left(self._firsts, end)
        pairs = zip(self._firsts[low:high], self._ends[low:high], strict=True)
        return sum(min(b, end) - max(a, first) for a, b in pairs)

    def __contains__(self, offset: int) -> bool:
        place = bisect.bisect_right(self._firsts, offset) - 1
        return place >= 0 and offset < self._ends[place]

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._firsts, self._ends, strict=True))

    def __len__(self) -> int:
        return sum(end - first for first, end in self)


def ranges_of(offsets: Iterable[int]) -> list[Range]:
    """Offsets, ascending and without repeats, as ranges.

    >>> ranges_of([1, 2, 3, 7, 9, 10]), ranges_of([])
    ([(1, 4), (7, 8), (9, 11)], [])
    """
    found = list(offsets)
    if not found:
        return []
    breaks = [after for before, after in pairwise(found) if after != before + 1]
    lasts = [before for before, after in pairwise(found) if after != before + 1]
    return [
        (first, last + 1)
        for first, last in zip([found[0], *breaks], [*lasts, found[-1]], strict=True)
    ]
