"""How often, and for how long, a job comes again without being charged.

A throttle says nothing about a job, so it is no attempt. A dependency that throttles
for ever, with no wait, would keep a job going for ever: both are bounded here, and the
job then becomes a dead letter that can be replayed.

Pure.
"""

from __future__ import annotations

MAX_PUT_OFF = 10_000
"""How often. With the least wait, 100 ms, that is 17 min of trying for nothing; with a
wait of one minute, a week."""

MAX_PUT_OFF_MS = 7 * 86_400_000
"""For how long: a week, so that an outage over a long weekend loses nothing."""


def is_put_off_too_long(count: int, waited_ms: int) -> bool:
    """Whether a job that is throttled again and again is over.

    Args:
        count: How often it was put off, this time included, >= 1.
        waited_ms: Since the first time, milliseconds.
    """
    return count > MAX_PUT_OFF or waited_ms > MAX_PUT_OFF_MS
