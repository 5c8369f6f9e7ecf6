"""The position of a reader of one partition whose records end out of order.

The *frontier* (commit watermark) is the lowest offset that was delivered and is still
open; everything below it has ended. Records that ended above it are *ahead*: they are
written beside the committed frontier as text (`shifter.policy.delivery.ack_metadata`),
so that the next owner of the partition skips them. Gaps of the log (transaction
markers, compacted records) were never delivered, so they hold nothing back.

Source: confluent's parallel-consumer (highest sequential succeeded, offset map).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from shifter.policy.delivery.ack_metadata import Range

WINDOW: Final = 10_000
"""Records delivered since the frontier above which no more should be read.

The text of a commit holds at least 23,936 offsets, so a full window fits with gaps.
"""


class AckMap:
    """The delivered records of one partition, and those of them that have ended.

    Both calls of the hot path take batches and cost a constant time a record,
    amortised.

    Args:
        position: The first offset that is not ended, as committed.
        done: Ranges at or above it that ended already, ascending, disjoint.

    Attributes:
        position: The next offset to be delivered; never goes back.
    """

    __slots__ = ("_done", "_line", "_open", "position")

    def __init__(self, position: int, done: Sequence[Range] = ()) -> None:
        self.position = position
        # Delivered since the frontier, ascending; the first one is always open.
        self._line: deque[int] = deque()
        self._open: set[int] = set()
        # Ended under an earlier owner and not met again yet.
        self._done = deque(done)

    def __len__(self) -> int:
        """Records delivered since the frontier, open or ended."""
        return len(self._line)

    @property
    def frontier(self) -> int:
        """The commit watermark: every record below it has ended. Never goes back."""
        return self._line[0] if self._line else self.position

    @property
    def open_count(self) -> int:
        """Records that were delivered and have not ended."""
        return len(self._open)

    @property
    def is_restoring(self) -> bool:
        """Whether `deliver` may still name records that ended already."""
        return bool(self._done)

    def deliver(self, offsets: Sequence[int]) -> Sequence[int]:
        """Note that these were read; returns those that have not ended already.

        Args:
            offsets: Ascending, no repeats, none below `position`, at least one.
        """
        fresh = self._unknown(offsets) if self._done else offsets
        self._line.extend(offsets)
        self._open.update(fresh)
        self.position = offsets[-1] + 1
        if len(fresh) < len(offsets):
            self._advance()
        return fresh

    def settle_many(self, offsets: Iterable[int]) -> None:
        """Note that these ended. Repeats and offsets never delivered are ignored."""
        self._open.difference_update(offsets)
        self._advance()

    def reach(self, offset: int) -> None:
        """Note that no record between `position` and ``offset`` will ever come."""
        self.position = max(self.position, offset)
        self._forget(self.position)

    def ahead(self) -> list[Range]:
        """What ended above the frontier: ranges, ascending, disjoint, not adjacent.

        A range goes up to the next open record, over gaps.
        """
        ranges: list[Range] = []
        first_done: int | None = None
        for offset in self._line if len(self._open) < len(self._line) else ():
            if offset not in self._open:
                first_done = offset if first_done is None else first_done
            elif first_done is not None:
                ranges.append((first_done, offset))
                first_done = None
        if first_done is not None:
            ranges.append((first_done, self.position))
        for first, end in self._done:
            is_adjacent = bool(ranges) and ranges[-1][1] == first
            ranges.append((ranges.pop()[0] if is_adjacent else first, end))
        return ranges

    def _advance(self) -> None:
        line, open_offsets = self._line, self._open
        while line and line[0] not in open_offsets:
            line.popleft()

    def _unknown(self, offsets: Sequence[int]) -> list[int]:
        fresh = []
        for offset in offsets:
            self._forget(offset)
            if not self._done or offset < self._done[0][0]:
                fresh.append(offset)
        self._forget(offsets[-1] + 1)
        return fresh

    def _forget(self, offset: int) -> None:
        """Drop the ranges of `done` below ``offset``."""
        while self._done and self._done[0][1] <= offset:
            self._done.popleft()
        if self._done and self._done[0][0] < offset:
            self._done[0] = (offset, self._done[0][1])
