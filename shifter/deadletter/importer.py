"""Imports exported dead letters, and records the run in the journal.

Each batch is written together with the step that counts it: a command that was killed
leaves a run whose counts are true. Such a run cannot be resumed, since only the file
shows what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from shifter.deadletter.journal import (
    Entry,
    Run,
    RunBegun,
    RunEnded,
    RunHistory,
    RunStep,
)
from shifter.deadletter.replay import ReplayParts, write
from shifter.errors import ShifterError, StoreError
from shifter.ports import Record

_BATCH: Final = 1_000
_BATCH_BYTES: Final = 8_000_000


async def bring_in(
    parts: ReplayParts, begun: RunBegun, records: Iterable[Record]
) -> Run:
    """Append records to the topic of a run, all of them or until a batch fails.

    Args:
        parts: What the run works with; its log is open.
        begun: The run, which is not in the journal yet.
        records: Records to append to the run's source, whatever topic they name.

    Raises:
        StoreError: The log did not take all records; the journal has their number.
        DecodeError: ``records`` cannot be read to the end; the journal has the number
            of those that were appended.
    """
    history, clock = RunHistory(), parts.clock

    async def add(entry: Entry, batch: Iterable[Record] = ()) -> None:
        await write(parts, [*batch, parts.journal.record(entry)])
        history.note(entry)

    await add(begun)
    rest = iter(records)
    try:
        while batch := [_to(begun.source, each) for each in _some(rest)]:
            counts, now_ms = {"imported": len(batch)}, clock.epoch_ms()
            step = RunStep(run=begun.run, at_ms=now_ms, upto={}, counts=counts)
            await add(step, batch)
    except ShifterError as error:
        end = RunEnded(
            run=begun.run, at_ms=clock.epoch_ms(), is_done=False, why=str(error)
        )
        with contextlib.suppress(StoreError):
            await add(end)
        raise
    await add(RunEnded(run=begun.run, at_ms=clock.epoch_ms(), is_done=True))
    return history.runs[begun.run]


def _some(records: Iterator[Record]) -> Iterator[Record]:
    """The records of the next batch, bounded by number and by bytes."""
    size = 0
    for record in islice(records, _BATCH):
        yield record
        size += len(record.value) + sum(
            len(value or b"") for _, value in record.headers
        )
        if size >= _BATCH_BYTES:
            return


def _to(topic: str, record: Record) -> Record:
    return Record(topic, record.value, record.headers, record.key)
