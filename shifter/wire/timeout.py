"""A deadline between services: what is left of it, as gRPC writes durations.

``grpc-timeout`` is one to eight digits and a unit: ``1S``, ``500m``. A duration and not
an instant, so that clocks need not agree; only the time on the network is lost. In the
log, where time passes, the envelope carries the instant itself.

Source: gRPC over HTTP/2, `doc/PROTOCOL-HTTP2.md`.
"""

from __future__ import annotations

import re
from typing import Final

from shifter.model.duration import MAX_DURATION_MS

_TEXT: Final = re.compile(r"([0-9]{1,8})([HMSmun])\Z", re.ASCII)
_UNIT_NS: Final = {
    "H": 3_600_000_000_000,
    "M": 60_000_000_000,
    "S": 1_000_000_000,
    "m": 1_000_000,
    "u": 1_000,
    "n": 1,
}
_MOST: Final = 99_999_999
_MS_NS: Final = 1_000_000


def read_timeout(text: str) -> int | None:
    """Milliseconds left, rounded down; ``None`` where the text is no timeout.

    What is longer than a year is cut to a year: an absurd deadline is none.

    >>> read_timeout("1S"), read_timeout("1500u"), read_timeout("soon")
    (1000, 1, None)
    """
    match = _TEXT.match(text)
    if match is None:
        return None
    return min(int(match[1]) * _UNIT_NS[match[2]] // _MS_NS, MAX_DURATION_MS)


def write_timeout(left_ms: int) -> str:
    """The same as text, in the finest unit that fits eight digits, rounded down.

    >>> write_timeout(1_500), write_timeout(400_000_000)
    ('1500m', '400000S')
    """
    left_ms = max(0, left_ms)
    if left_ms <= _MOST:
        return f"{left_ms}m"
    return f"{left_ms // 1_000}S"
