"""How much it hurts not to serve a job.

Four priorities, each with a hundred levels, so that shedding is smooth: level 399 is
the last to be shed, level 0 the first. Source: Google SRE book, ch. 21 (criticality);
failsafe-go's prioritizer (levels).
"""

from __future__ import annotations

from enum import StrEnum

LEVELS_PER_PRIORITY = 100
MAX_LEVEL = 399


class Priority(StrEnum):
    """Set by the producer, travels with the job; the value is the wire's word.

    Attributes:
        CRITICAL: Served before all others, and never below the shedding threshold.
        HIGH: A person waits for it.
        NORMAL: The default.
        LOW: May wait until there is room.
    """

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    NORMAL = "NORMAL"
    LOW = "LOW"

    # Kept in the member: each decision asks for them, and hashing a member is slow.
    rank: int
    """0 for ``LOW`` … 3 for ``CRITICAL``."""
    base_level: int
    """The lowest level of this priority: 0, 100, 200 or 300."""


for _rank, _priority in enumerate(reversed(Priority)):
    _priority.rank = _rank
    _priority.base_level = _rank * LEVELS_PER_PRIORITY
