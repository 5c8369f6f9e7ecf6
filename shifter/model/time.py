"""Instants and durations: their types, and durations as texts.

A person writes ``"250ms"``, ``"30s"``, ``"5m"``, ``"6h"``, ``"7d"``, a number of
seconds, or a ``timedelta``. A string without a unit is an error, since ``"10"`` may
mean seconds or milliseconds.

Services send the time that is left until a deadline as gRPC writes it
(``doc/PROTOCOL-HTTP2.md``): one to eight digits and a unit, such as ``1S`` or ``500m``.
A duration needs no clocks that agree; only the time on the network is lost. In the log,
where time passes, the envelope carries the instant instead.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final, NewType, TypeAlias

from shifter.errors import ConfigError

EpochMs = NewType("EpochMs", int)
"""Wall clock, milliseconds since 1970-01-01 UTC."""

StoreMs = NewType("StoreMs", int)
"""Wall clock of the shared store (Redis ``TIME``), milliseconds."""

Monotonic = NewType("Monotonic", float)
"""Seconds of this process's monotonic clock."""

Duration: TypeAlias = str | int | float | timedelta
"""A duration as the public API takes it."""

MAX_DURATION_MS = 366 * 86_400_000
"""One year; a longer duration is taken for a mistake."""

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# A float of seconds is off by 2**-53 of itself at most, and so is its product with
# a thousand; twice their sum is on the safe side.
_ROUNDING = 2**-51
_MILLISECOND = timedelta(milliseconds=1)
_TEXT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)\Z")
_WANT = "use a duration such as '250ms', '30s', '5m', '6h', '7d', or seconds"

_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])\Z", re.ASCII)
_TIMEOUT_UNIT_NS: Final = {
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "m": 1_000_000,
    "u": 1_000,
    "n": 1,
}
_TIMEOUT_MOST: Final = 99_999_999
_MS_NS: Final = 1_000_000


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
    """Rounded up, less the error that a float has as seconds times a thousand."""
    return math.ceil(ms - max(5e-7, ms * _ROUNDING))


def _milliseconds(value: object) -> int | float | None:
    if isinstance(value, timedelta):
        return value / _MILLISECOND  # exact, which seconds times a thousand are not
    # Python takes a bool for a number, and True would be one second.
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value * 1_000
    match = _TEXT.match(value) if isinstance(value, str) else None
    return float(match[1]) * _UNIT_MS[match[2]] if match else None


def read_timeout(text: str) -> int | None:
    """Milliseconds of a timeout, rounded down; ``None`` if the text is no timeout.

    A timeout of more than a year is cut to a year.

    >>> read_timeout("1S"), read_timeout("1500u"), read_timeout("soon")
    (1000, 1, None)
    """
    match = _TIMEOUT.match(text)
    if match is None:
        return None
    return min(int(match[1]) * _TIMEOUT_UNIT_NS[match[2]] // _MS_NS, MAX_DURATION_MS)


def write_timeout(left_ms: int) -> str:
    """A timeout as text, in the finest unit that fits eight digits, rounded down.

    >>> write_timeout(1_500), write_timeout(400_000_000)
    ('1500m', '400000S')
    """
    left_ms = max(0, left_ms)
    if left_ms <= _TIMEOUT_MOST:
        return f"{left_ms}m"
    return f"{left_ms // 1_000}S"
