"""No inversion: a class is never shed while a lower one is let in.

Decisions are taken one by one, so a ``LOW`` job may get the last slot a moment before
a ``HIGH`` one has to be shed. A window ends after its time, or *at once* when a class
is about to be shed and a lower one was let in within it: the window that begins with
that refusal lets no lower class in until its end. So within one window the rule holds
of the answers themselves, whatever the order of arrivals.

Two scopes. What runs here takes slots of this process, whichever queue it is of: after
a shed no lower class is *run*. What is deferred takes only its own queue's workers:
after a shed no lower class is *deferred* to that queue.
"""

from __future__ import annotations

from shifter.model.priority import Priority

_NONE_YET = len(Priority)


class DecisionWindow:
    """The window that is open now. Owned by one process.

    Attributes:
        number: Grows with every window.
        floor: The highest rank shed in it for want of room, -1 if none: nothing lower
            is run.
    """

    __slots__ = ("_deferred", "_floors", "_ran", "floor", "number")

    def __init__(self) -> None:
        self.number = 0
        self.roll()

    def roll(self) -> None:
        """Begin the next window."""
        self.number += 1
        self.floor = -1
        self._ran = _NONE_YET
        self._floors: dict[str, int] = {}
        self._deferred: dict[str, int] = {}

    def floor_of(self, queue: str) -> int:
        """The highest rank of a queue that was shed, -1 if none."""
        return self._floors.get(queue, -1)

    def ran(self, rank: int) -> None:
        """Note that a job of this rank is run here."""
        if rank < self._ran:  # noqa: PLR1730  # half the price, in each decision
            self._ran = rank

    def deferred(self, queue: str, rank: int) -> None:
        """Note that one is deferred."""
        if rank < self._deferred.get(queue, _NONE_YET):
            self._deferred[queue] = rank

    def shed(self, queue: str, rank: int) -> None:
        """Note that one is shed for want of room; may begin a window of its own."""
        if self._ran < rank or self._deferred.get(queue, _NONE_YET) < rank:
            self.roll()
        self.floor = max(self.floor, rank)
        self._floors[queue] = max(self.floor_of(queue), rank)
