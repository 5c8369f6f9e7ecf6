"""How fast a lane is drained, from looks at it.

While jobs wait, what ends a second is what the workers can do; while none wait, it is
only what arrived. So only a look at a waiting lane teaches anything, unless an empty
one was seen to go faster.
"""

from __future__ import annotations

from typing import Final

_TAKEN: Final = 0.5


def next_rate(
    known: float | None, measured: float, *, waiting: int, is_drained: bool
) -> float | None:
    """The estimate after one more look.

    Args:
        known: The one before, jobs a second; ``None`` at first.
        measured: Jobs ended a second over the last seconds, >= 0.
        waiting: Jobs that wait, >= 0.
        is_drained: Whether any worker serves the lane. Where none does, nothing is
            known: they may be on their way, and what was accepted is kept.

    >>> next_rate(10.0, 2.0, waiting=0, is_drained=True)
    10.0
    >>> next_rate(10.0, 2.0, waiting=50, is_drained=True)
    6.0
    """
    if not is_drained:
        return None
    if waiting == 0:
        return None if known is None else max(known, measured)
    if known is None:
        return measured or None
    return known + _TAKEN * (measured - known)
