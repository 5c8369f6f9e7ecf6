"""What settings of the protective policies may be: checked once, the field named."""

from __future__ import annotations

import math
from typing import Any

from shifter.errors import ConfigError


def check_at_least(field: str, value: Any, minimum: int) -> None:
    """Refuse anything but a whole number of some size.

    Args:
        field: The setting's name, for the error.
        value: What was given for it.
        minimum: The smallest number that is allowed.

    Raises:
        ConfigError: The value is not a whole number, or is smaller.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < minimum:
        raise ConfigError(field, value, f"use a whole number, at least {minimum}")


def check_ratio(field: str, value: Any, *, most: float = 1.0) -> None:
    """Refuse anything outside ``(0, most]``; NaN and infinities are outside.

    Args:
        field: The setting's name, for the error.
        value: What was given for it.
        most: The largest number that is allowed.

    Raises:
        ConfigError: The value is outside, or is not a number.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= most:
        raise ConfigError(field, value, f"use a number above 0, up to {most:g}")
