"""Durations and instants as text, the same for a terminal and for a page."""

from __future__ import annotations

from datetime import UTC, datetime


def age_text(seconds: float | None) -> str | None:
    """A duration as text, in its two largest units.

    >>> age_text(3.21), age_text(61.0), age_text(90_061.0), age_text(None)
    ('3.2s', '1m1s', '1d1h', None)
    >>> age_text(-61.0)
    '-1m1s'
    """
    if seconds is None:
        return None
    if seconds < 0:
        return f"-{age_text(-seconds)}"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{rest}s"


def instant_text(epoch_ms: int) -> str:
    """An instant as text, in UTC.

    >>> instant_text(0), instant_text(10**18)
    ('1970-01-01T00:00:00Z', '1000000000000000000 ms')
    """
    try:
        instant = datetime.fromtimestamp(epoch_ms / 1_000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return f"{epoch_ms} ms"
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def tier_text(tier_s: int | None) -> str:
    """A delay tier as text: how long a record stays there.

    >>> tier_text(64), tier_text(4096), tier_text(None)
    ('1m4s', '1h8m', 'file')
    """
    return "file" if tier_s is None else age_text(float(tier_s)) or ""
