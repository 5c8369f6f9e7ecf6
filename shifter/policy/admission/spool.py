"""Who may still use a spool that fills up: LOW is refused first. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from shifter.model.priority import Priority

_LIMITS: Final = MappingProxyType(
    {
        Priority.CRITICAL: 1.0,
        Priority.HIGH: 0.95,
        Priority.NORMAL: 0.85,
        Priority.LOW: 0.7,
    }
)


def may_spool(priority: Priority, used: float) -> bool:
    """Whether a record of this priority still finds room.

    Args:
        priority: Of its lane.
        used: Part of the allowed size that is used, from 0.0.

    >>> may_spool(Priority.LOW, 0.6), may_spool(Priority.LOW, 0.7)
    (True, False)
    >>> may_spool(Priority.CRITICAL, 0.99), may_spool(Priority.CRITICAL, 1.0)
    (True, False)
    """
    return used < _LIMITS[priority]
