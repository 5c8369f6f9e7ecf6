"""How a delayed record finds its way: which topic it goes to, and what it carries.

On the delay ladder a record is away from its lane, so it carries two headers of the
log's own: the lane it belongs to and when it is due. They are dropped when it reaches
the lane. A reader of delay topics takes them for untrusted input.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shifter.model.lane import delay_topic
from shifter.policy.delivery.delay import next_hop
from shifter.ports import Record
from shifter.wire.headers import Headers

LANE_HEADER: Final = "shifter-lane"
DUE_HEADER: Final = "shifter-due"

_MAX_DIGITS: Final = 15
_MAX_TOPIC: Final = 249


class DelayTarget(NamedTuple):
    """Where a record on the ladder wants to go.

    Attributes:
        topic: The lane's name.
        due_ms: Not before this instant, epoch milliseconds.
    """

    topic: str
    due_ms: int


def route(namespace: str, record: Record, now_ms: int) -> tuple[str, Headers]:
    """The topic a record is written to now, and its headers there.

    A record that is due within the shortest tier goes straight to its lane, where a
    worker holds it for the rest.

    Args:
        namespace: First part of the delay topics' names.
        record: Its headers hold none of the ladder's own.
        now_ms: Epoch milliseconds.
    """
    if record.due_ms is None:
        return record.topic, record.headers
    tier_s = next_hop(record.due_ms - now_ms)
    if tier_s is None:
        return record.topic, record.headers
    return delay_topic(namespace, tier_s), [
        *record.headers,
        (LANE_HEADER, record.topic.encode()),
        (DUE_HEADER, b"%d" % record.due_ms),
    ]


def waiting(headers: Headers) -> tuple[DelayTarget | None, Headers]:
    """Where a record read from a delay topic wants to go, and its headers there.

    Returns:
        ``None`` in the first place if the ladder's headers are missing or malformed;
        in the second the headers without them.
    """
    found: dict[str, bytes] = {}
    rest: Headers = []
    for name, value in headers:
        if name in (LANE_HEADER, DUE_HEADER):
            found[name] = value if value is not None else b""
        else:
            rest.append((name, value))
    lane, due = found.get(LANE_HEADER, b""), found.get(DUE_HEADER, b"")
    is_due = due.isdigit() and len(due) <= _MAX_DIGITS
    if not (is_due and lane.isascii() and 0 < len(lane) <= _MAX_TOPIC):
        return None, rest
    return DelayTarget(lane.decode("ascii"), int(due)), rest
