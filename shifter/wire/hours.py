"""Which delayed records wait for an execution window only.

A record that its log delays for longer than its envelope says waits for a window to
open; whoever opens it by hand wants the record now.
"""

from __future__ import annotations

from collections.abc import Callable

from shifter.errors import WireError
from shifter.model.lane import Lane, parse_lane
from shifter.wire.headers import Headers, read_headers


def hastened_ms(
    topic: str,
    headers: Headers,
    due_ms: int,
    *,
    wanted: Callable[[str, Lane], bool],
    now: int,
) -> int:
    """When a delayed record should be on its lane, now that hours have changed.

    Args:
        topic: The lane that it is to go to.
        headers: As written; untrusted.
        due_ms: When it would be there by itself, epoch milliseconds.
        wanted: Whether jobs of a type on a lane may start now.
        now: Epoch milliseconds.

    Returns:
        ``due_ms``, or what comes first of it and the record's own due time.
    """
    lane = parse_lane(topic)
    if lane is None or due_ms <= now:
        return due_ms
    try:
        envelope = read_headers(headers).envelope
    except WireError:
        return due_ms
    own_ms = now if envelope.due_ms is None else max(now, envelope.due_ms)
    return own_ms if own_ms < due_ms and wanted(envelope.type, lane) else due_ms
