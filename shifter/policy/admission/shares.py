"""Shares of a resource that each priority may fill: slots of a process, spool space.

The rest is reserved for more urgent work, so that a process full of ``LOW`` jobs still
starts a ``CRITICAL`` one at once.
"""

from __future__ import annotations

import math
from typing import Final

from shifter.model.lane import Priority

SLOT_SHARES: Final = (0.75, 0.9, 1.0, 1.0)
"""Share of all slots that ``LOW`` … ``CRITICAL`` may fill, by rank.

A slot is not given back before its job ends, so the reserve for urgent work has to be
kept free beforehand. At 8 slots, a quarter is two slots that ``LOW`` cannot take.
"""

_SPOOL_SHARES: Final = (0.7, 0.85, 0.95, 1.0)
"""Share of the spool's allowed size that ``LOW`` … ``CRITICAL`` may fill, by rank.

The steps leave each priority at least a twentieth of the spool that no lower one takes.
"""

_MOST_RESERVED: Final = 0.5
"""Largest share of the slots that is reserved for ``CRITICAL``.

At one half, a service whose traffic is all urgent cannot starve the other priorities.
"""

_RETURNED: Final = 0.25
"""Reserved slots returned after a window in which ``CRITICAL`` found a slot.

A slot is reserved at once and returned over four windows (two seconds), so that the
reserve does not swing with every burst. Without overload a whole slot is returned.
"""

_CRITICAL: Final = Priority.CRITICAL.rank


class SlotShares:
    """The slots that each priority may fill, and a reserve for ``CRITICAL``.

    If most arrivals are urgent, the shares alone leave it to chance which of them finds
    a slot. Therefore one more slot is reserved for ``CRITICAL`` after each window in
    which it found none: the most urgent work is shed last.

    Args:
        shares: Of the slots, by rank, ascending, each above 0 and at most 1.
        limit: All slots, >= 1.

    Attributes:
        slots: How many slots a job may fill, by rank.
        is_short: Whether ``CRITICAL`` found no slot in the window that is open.
    """

    __slots__ = ("_limit", "_reserved", "_shares", "is_short", "slots")

    def __init__(self, shares: tuple[float, float, float, float], limit: int) -> None:
        self._shares, self._limit, self._reserved = shares, limit, 0.0
        self.is_short = False
        self.slots = self._by_rank()

    def roll(self, *, windows: int, is_overloaded: bool) -> None:
        """Adjust the reserve at the end of a window.

        Args:
            windows: Windows that passed since the last call, >= 1.
            is_overloaded: Whether a share of the arrivals is turned away.
        """
        returned = _RETURNED if is_overloaded else 1.0
        change = 1.0 if self.is_short else -returned * windows
        most = self._limit * _MOST_RESERVED
        self._reserved = min(most, max(0.0, self._reserved + change))
        self.is_short = False
        self.slots = self._by_rank()

    def _by_rank(self) -> list[int]:
        limit = self._limit
        most = [limit - math.ceil(self._reserved)] * _CRITICAL + [limit]
        return [
            max(1, min(int(limit * share), bound))
            for share, bound in zip(self._shares, most, strict=True)
        ]


def may_spool(priority: Priority, used: float) -> bool:
    """Whether the spool has room for a record of this priority.

    Args:
        priority: The priority of the record's lane.
        used: Used share of the spool's allowed size, >= 0.

    >>> may_spool(Priority.LOW, 0.6), may_spool(Priority.LOW, 0.7)
    (True, False)
    >>> may_spool(Priority.CRITICAL, 0.99), may_spool(Priority.CRITICAL, 1.0)
    (True, False)
    """
    return used < _SPOOL_SHARES[priority.rank]
