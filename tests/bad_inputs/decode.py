"""What a worker makes of a record before anything runs: no log, no clock, no worker."""

from __future__ import annotations

from shifter.errors import DecodeError
from shifter.model.lane import Lane, Priority
from shifter.model.reason import Reason
from shifter.ports import Delivery
from shifter.wire.headers import Headers
from shifter.work.item import Item, ItemReader, ItemRefusal, Unreadable
from tests.bad_inputs.jobs import app

LANE = Lane("bad-inputs", "default", Priority.NORMAL)
READER = ItemReader({LANE.name: LANE}, app.jobs)


def decode(headers: Headers, value: bytes | None, now_ms: int) -> Item | Unreadable:
    """The item that would be run, or what has a refusal; nothing else can come of it."""
    delivery = Delivery(LANE.name, None, value, headers, 0, 0, 0)
    entry = READER.read(delivery, None, now_ms)
    if entry.refusal is not None:
        return entry
    try:
        entry.job.codec.decode(value, entry.read.content_type)
    except DecodeError as error:
        entry.refusal = ItemRefusal(Reason(error.reason), error.detail)
    return entry
