"""Numbers as a row of characters, for a terminal and for a page of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_PLAIN: Final = " .:-=+*#@"


def condense(per_s: Sequence[int], width: int, *, length: int) -> list[int]:
    """Rates a second as so many columns, each the mean of as many seconds.

    Args:
        per_s: One value a second, each >= 0.
        width: Columns, >= 1.
        length: Seconds that are expected in all, so that columns keep their meaning
            while values are added; more of them still fit.

    Returns:
        At most ``width`` values, rounded up: what is not zero stays seen.

    >>> condense([1, 3, 5, 5, 0, 1], 3, length=6)
    [2, 5, 1]
    """
    seconds = max(1, -(-max(length, len(per_s)) // width))
    parts = [per_s[at : at + seconds] for at in range(0, len(per_s), seconds)]
    return [-(-sum(part) // len(part)) for part in parts]


def sparkline(
    values: Sequence[int], width: int, *, most: int, ascii_only: bool = False
) -> str:
    """The last values that fit, one column each; 0 is a blank, all else is seen.

    Args:
        values: Each >= 0.
        width: Columns, >= 1.
        most: Value of a full column, >= 1; a larger one is shown as full.
        ascii_only: Whether block characters cannot be shown.

    >>> sparkline([0, 1, 4, 8], 3, most=8)
    '▁▄█'
    >>> sparkline([0, 1, 4, 8], 8, most=8, ascii_only=True)
    ' .=@'
    """
    marks = _PLAIN if ascii_only else _BLOCKS
    top = len(marks) - 1
    return "".join(
        marks[min(top, -(-value * top // most))] for value in values[-width:]
    )


def meter(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar that is full to a share.

    Args:
        share: 0 to 1; outside of it is shown as the nearer end.
        width: Columns, >= 1.
        ascii_only: Whether block characters cannot be shown.

    >>> meter(0.5, 4), meter(2.0, 2, ascii_only=True)
    ('██░░', '##')
    """
    full, rest = ("#", "-") if ascii_only else ("█", "░")
    filled = round(max(0.0, min(1.0, share)) * width)
    return full * filled + rest * (width - filled)
