"""Records that follow a delivery: its next turn, or its dead letter."""

from __future__ import annotations

from typing import Final

import msgspec

from shifter.model.lane import Priority, dead_letter_topic
from shifter.ports import Record
from shifter.wire.dead_letter import (
    DEAD_LETTER_ROOM_BYTES,
    LEAST_ROOM_BYTES,
    Origin,
    damage_facts,
    dead_letter_headers,
    dead_letter_info,
)
from shifter.wire.envelope import repair_id
from shifter.wire.failure import ErrorFacts
from shifter.wire.headers import successor
from shifter.work.item import Item, ItemRefusal, Unreadable

CUT_DIAGNOSTICS: Final = 2
CUT_VALUE: Final = 3
"""How often the log found a dead letter too large before it loses more of itself.

The first time it is sent alone, as it is: its company may have been too large.
"""


def next_turn(
    item: Item,
    *,
    attempt: int,
    turn: int,
    due_ms: int | None,
    misfit_since_ms: int | None = None,
) -> Record:
    """The record that runs this job again.

    Args:
        item: The job at hand.
        attempt: What it will be charged as, 1-based.
        turn: Its hand-over number; unchanged when this turn was not run.
        due_ms: Not before this instant, epoch milliseconds; ``None`` at once.
        misfit_since_ms: Since when it waits for a worker that has its type, if it does.
    """
    headers = successor(
        item.read,
        queue=item.lane.queue,
        priority=item.lane.priority,
        attempt=attempt,
        turn=turn,
        due_ms=due_ms,
        first_failed_ms=item.first_failed_ms,
        misfit_since_ms=misfit_since_ms,
        put_off_since_ms=item.put_off_since_ms,
        was_run=item.was_run,
    )
    delivery = item.delivery
    return Record(item.lane.name, delivery.value or b"", headers, delivery.key, due_ms)


def later_turn(item: Item, opens_ms: int) -> Record:
    """The record that runs this turn of a job when its hours begin.

    The due time in its headers stays, so that this wait can be distinguished from a
    delay that the producer requested.

    Args:
        item: The job; it was not run.
        opens_ms: When they begin, epoch milliseconds.
    """
    due_ms = item.envelope.due_ms
    record = next_turn(item, attempt=item.attempt, turn=item.turn, due_ms=due_ms)
    return msgspec.structs.replace(record, due_ms=opens_ms)


def moved_record(item: Item, partition: int) -> Record:
    """The record that runs this turn of a job at once, from another partition.

    Its due time is over and stays in its headers, as all else does.

    Args:
        item: The job; it was not run.
        partition: Of its own topic.
    """
    record = next_turn(
        item,
        attempt=item.attempt,
        turn=item.turn,
        due_ms=item.envelope.due_ms,
        misfit_since_ms=item.misfit_since_ms,
    )
    return msgspec.structs.replace(record, due_ms=None, partition=partition)


def repair(item: Item) -> Record:
    """The record that does a job again that was answered cheaper, at LOW.

    Its id follows from the job's, so that a cheaper answer given twice is mended once.
    """
    lane = item.lane._replace(priority=Priority.LOW)
    headers = successor(
        item.read,
        id=repair_id(item.envelope.id),
        priority=Priority.LOW,
        queue=lane.queue,
        attempt=1,
        turn=1,
        due_ms=None,
        deadline_ms=None,
        idempotency_key=None,
        first_failed_ms=None,
        misfit_since_ms=None,
        put_off_since_ms=None,
        was_run=False,
    )
    delivery = item.delivery
    return Record(lane.name, delivery.value or b"", headers, delivery.key)


def dead_letter(
    entry: Item | Unreadable,
    why: ItemRefusal,
    error: ErrorFacts | None,
    *,
    now: int,
    worker: str,
    cut: int = 0,
) -> Record:
    """The dead letter of a delivery: raw value, key and headers, with the reason.

    Args:
        entry: What ends.
        why: Its reason.
        error: The failure behind it, if there is one.
        now: Epoch milliseconds.
        worker: Who gives it up.
        cut: From 0; from `CUT_DIAGNOSTICS` on without diagnostics and strange headers,
            from `CUT_VALUE` on without the value too, which its origin still has.
    """
    delivery, lane = entry.delivery, entry.lane
    item = entry if isinstance(entry, Item) else None
    first_failed_ms = None if item is None else item.first_failed_ms
    info = dead_letter_info(
        None if item is None else item.envelope,
        Origin(
            delivery.topic, delivery.partition, delivery.offset, delivery.appended_ms
        ),
        damage_facts(why.reason, why.detail) if error is None else error,
        queue=lane.queue,
        reason=why.reason,
        attempts=0 if item is None else item.attempt,
        first_failed_ms=now if first_failed_ms is None else first_failed_ms,
        last_failed_ms=now,
        worker=worker,
    )
    value = delivery.value or b""
    room = DEAD_LETTER_ROOM_BYTES if cut < CUT_DIAGNOSTICS else LEAST_ROOM_BYTES
    headers = dead_letter_headers(
        info,
        delivery.headers,
        room_bytes=room,
        dropped_bytes=len(value) if cut >= CUT_VALUE else None,
    )
    topic = dead_letter_topic(lane.namespace, lane.queue)
    return Record(topic, b"" if cut >= CUT_VALUE else value, headers, delivery.key)
