"""What others ask of a member's thread, and how they wake it.

Written by the event loop, read by the thread; every field is one value or one deque, so
that no lock is needed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence, Set as AbstractSet

from shifter.ports import Delivery


class Requests:
    """Asked by any thread, answered by one.

    Attributes:
        wanted: How many records somebody waits for; 0 when nobody does.
        held: Epochs of partitions not to be read for now.
        rested: Topics not to be read for now.
        settled: Batches that ended, oldest first.
        is_leaving: Whether the thread is to end.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self.held: frozenset[int] = frozenset()
        self.rested: AbstractSet[str] = frozenset()
        self.settled: deque[Sequence[Delivery]] = deque()
        self.is_leaving = False
        self._wake = threading.Event()

    def want(self, count: int) -> None:
        """Ask for the next records, at most ``count``."""
        self.wanted = count
        self._wake.set()

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Say that these ended."""
        self.settled.append(deliveries)
        self._wake.set()

    def hold(self, epochs: frozenset[int]) -> None:
        """Ask that the partitions of these epochs, and only these, are not read."""
        self.held = epochs
        self._wake.set()

    def rest(self, topics: AbstractSet[str]) -> None:
        """Ask that these topics, and only these, are not read."""
        self.rested = topics
        self._wake.set()

    def leave(self) -> None:
        """Ask the thread to end."""
        self.is_leaving = True
        self._wake.set()

    def wait(self, seconds: float) -> None:
        """Block until somebody asks for something; by the answering thread only."""
        self._wake.wait(seconds)
        self._wake.clear()
