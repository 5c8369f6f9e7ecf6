"""Letters that were exported come back in, and the journal says who brought them.

Each batch is noted when the log has acknowledged it: a command that was killed leaves a
run whose counts are those of its last step, and which is not gone on with, since only
the file knows what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from typing import Final

from shifter.deadletter.journal import (
    Begun,
    Book,
    Ended,
    Journal,
    Run,
    Step,
    check_written,
)
from shifter.errors import ShifterError, StoreError
from shifter.ports import Appended, Clock, LaneLog, Record

_BATCH: Final = 1_000
_APPEND_S: Final = 30.0


async def bring_in(
    log: LaneLog,
    journal: Journal,
    clock: Clock,
    begun: Begun,
    records: Iterable[Record],
) -> Run:
    """Append records to the topic of a run, all of them or until one fails.

    Args:
        log: Where they go.
        journal: Of the same log.
        clock: Dates the entries.
        begun: The run; not in the journal yet.
        records: Their topic is the run's, whatever they say.

    Raises:
        StoreError: The log did not take all of them; the journal says how many.
        DecodeError: Of ``records``, likewise.
    """
    book = Book()

    async def write(entry: Begun | Step | Ended) -> None:
        await journal.write(entry)
        book.note(entry)

    await write(begun)
    rest = iter(records)
    try:
        while batch := [_to(begun.source, each) for each in islice(rest, _BATCH)]:
            answers = await log.append(batch, timeout_s=_APPEND_S)
            count = sum(isinstance(answer, Appended) for answer in answers)
            counts = {"imported": count}
            now_ms = clock.epoch_ms()
            await write(Step(run=begun.run, at_ms=now_ms, upto={}, counts=counts))
            check_written(answers)
    except ShifterError as error:
        end = Ended(
            run=begun.run, at_ms=clock.epoch_ms(), is_done=False, why=str(error)
        )
        with contextlib.suppress(StoreError):
            await write(end)
        raise
    await write(Ended(run=begun.run, at_ms=clock.epoch_ms(), is_done=True))
    return book.runs[begun.run]


def _to(topic: str, record: Record) -> Record:
    return Record(topic, record.value, record.headers, record.key)
