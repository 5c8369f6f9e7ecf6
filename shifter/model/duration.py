"""Durations as people write them.

``"250ms"``, ``"30s"``, ``"5m"``, ``"6h"``, ``"7d"``, a number of seconds, or a
``timedelta``. A number without a unit in a string is an error: nobody can tell
whether ``"10"`` means seconds or milliseconds.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

from shifter.errors import ConfigError

Duration: TypeAlias = str | int | float | timedelta
"""A duration as the public API takes it."""

MAX_DURATION_MS = 366 * 86_400_000
"""One year: longer is taken for a mistake."""

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_ROUNDING = 2**-51
_MILLISECOND = timedelta(milliseconds=1)
_TEXT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)\Z")
_WANT = "use a duration such as '250ms', '30s', '5m', '6h', '7d', or seconds"


def duration_ms(field: str, value: object, *, minimum_ms: int = 0) -> int:
    """Milliseconds of a duration, rounded up so that no wait becomes shorter.

    Args:
        field: Name for the error.
        value: ``"30s"``, seconds as a number, or a ``timedelta``.
        minimum_ms: The smallest allowed result, included.

    Raises:
        ConfigError: Not a duration, not finite, below the minimum or above a year.

    >>> duration_ms("delay", "1.5s"), duration_ms("delay", 2)
    (1500, 2000)
    """
    found = _milliseconds(value)
    if found is None or (isinstance(found, float) and not math.isfinite(found)):
        raise ConfigError(field, value, _WANT)
    rounded = found if isinstance(found, int) else _rounded_up(found)
    if not minimum_ms <= rounded <= MAX_DURATION_MS:
        raise ConfigError(field, value, f"allowed: {minimum_ms} ms to 366 days")
    return rounded


def _rounded_up(ms: float) -> int:
    """Up, but not for what a float cannot say: seconds times a thousand may be off."""
    return math.ceil(ms - max(5e-7, ms * _ROUNDING))


def _milliseconds(value: object) -> int | float | None:
    if isinstance(value, timedelta):
        return value / _MILLISECOND  # exact, which seconds times a thousand are not
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value * 1_000
    match = _TEXT.match(value) if isinstance(value, str) else None
    return float(match[1]) * _UNIT_MS[match[2]] if match else None
