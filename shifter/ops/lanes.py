"""Looks into a lane without taking anything from it: no claim, no commit, no group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.config import Settings
from shifter.deadletter.letter import read_job
from shifter.errors import UnknownNameError
from shifter.model.advice import listed
from shifter.model.lane import Lane, parse_lane
from shifter.ops.payload import readable, text_or_hex
from shifter.ports import Delivery

MOST_ROWS: Final = 1_000
"""Waiting and delayed jobs, each, that one look shows at most."""


class PeekRow(msgspec.Struct, frozen=True):
    """One record of a lane. Its texts come from producers and are not trusted.

    Attributes:
        state: ``waiting``, also of a job that runs, or ``delayed``.
        job_id: The job's id; ``None`` if the record holds no job that can be read.
        job: The job type's name; ``None`` likewise.
        attempt: Number of the next attempt, 1-based; ``None`` likewise.
        appended_ms: When the log took the record, epoch milliseconds.
        due_ms: When a delayed job is due; ``None`` of others.
        deadline_ms: After when the job has no value; ``None`` without a deadline.
        key: Its ordering key, as text or hex.
        partition: Partition of the lane; of a delayed record where the log keeps it.
        offset: Its offset there.
        size_bytes: Of the payload.
        payload_encoding: ``json`` or ``hex``.
        payload: The arguments.
    """

    state: str
    job_id: str | None
    job: str | None
    attempt: int | None
    appended_ms: int
    due_ms: int | None
    deadline_ms: int | None
    key: str | None
    partition: int
    offset: int
    size_bytes: int
    payload_encoding: str
    payload: Any


class PeekedLane(NamedTuple):
    """What a look into a lane showed.

    Attributes:
        lane: The lane.
        rows: Waiting jobs, the oldest first, then delayed ones, the soonest first.
        is_complete: Whether these are the first ones; reading them may take too long.
    """

    lane: Lane
    rows: list[PeekRow]
    is_complete: bool


def find_lane(namespace: str, topics: Sequence[str], text: str) -> Lane:
    """The lane that an operator names.

    Args:
        namespace: Of the lanes.
        topics: Topics that exist.
        text: ``queue/priority``, in any case, or the name of the topic.

    Raises:
        UnknownNameError: There is no such lane; the error lists those there are.
    """
    lanes = [lane for topic in topics if (lane := parse_lane(topic)) is not None]
    own = {_short(lane): lane for lane in lanes if lane.namespace == namespace}
    found = own.get(text.lower()) or next(
        (lane for lane in own.values() if lane.name == text), None
    )
    if found is None:
        raise UnknownNameError("lane", text, listed(own, "lanes"))
    return found


async def peek_lane(settings: Settings, text: str, limit: int) -> PeekedLane:
    """The first waiting and the first delayed jobs of a lane.

    Args:
        settings: Name the log.
        text: The lane, as of `find_lane`.
        limit: The most waiting, and the most delayed jobs, from 1 to `MOST_ROWS`.

    Raises:
        UnknownNameError: There is no such lane.
        StoreError: The log does not answer.
    """
    async with wiring.opened_admin(settings) as admin:
        lane = find_lane(settings.namespace, await admin.topics(), text)
        found = await admin.peek(lane.name, limit)
    rows = [_row(one, None) for one in found.waiting]
    rows += [_row(one, due_ms) for due_ms, one in found.delayed]
    return PeekedLane(lane, rows, found.is_complete)


def _short(lane: Lane) -> str:
    return f"{lane.queue}/{lane.priority.value.lower()}"


def _row(found: Delivery, due_ms: int | None) -> PeekRow:
    read, value = read_job(found.headers), found.value or b""
    envelope = None if read is None else read.envelope
    payload, encoding = readable(value)
    return PeekRow(
        state="waiting" if due_ms is None else "delayed",
        job_id=None if envelope is None else envelope.id,
        job=None if envelope is None else envelope.type,
        attempt=None if envelope is None else envelope.attempt,
        appended_ms=found.appended_ms,
        due_ms=due_ms,
        deadline_ms=None if envelope is None else envelope.deadline_ms,
        key=None if found.key is None else text_or_hex(found.key),
        partition=found.partition,
        offset=found.offset,
        size_bytes=len(value),
        payload_encoding=encoding,
        payload=payload,
    )
