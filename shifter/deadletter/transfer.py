"""Exports dead letters as lines of a file, and imports them.

A line holds the record exactly, in base64, and beside it what a person wants to read.
Only the former is read back. A line may end on a terminal, so control characters are
escaped in what is for people.

An import writes each batch together with the step of the journal that counts it: a
command that was killed leaves a run whose counts are true. Such a run cannot be
resumed, since only the file shows what is missing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import csv
import io
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

import msgspec

from shifter.deadletter.journal import (
    Entry,
    Run,
    RunBegun,
    RunEnded,
    RunHistory,
    RunStep,
)
from shifter.deadletter.letter import Letter
from shifter.deadletter.replay import ReplayParts, write
from shifter.errors import DecodeError, ShifterError, StoreError
from shifter.ports import Record
from shifter.wire.headers import Headers
from shifter.wire.untrusted import MAX_DEPTH, check_depth, encode_line, printable

JSON_LINES: Final = "jsonl"
CSV: Final = "csv"

_BATCH: Final = 1_000
_BATCH_BYTES: Final = 8_000_000
_BAD: Final = "undecodable_line"
_MAX_LINE: Final = 16_000_000
_NULL: Final = "-"
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class LetterLine(msgspec.Struct, kw_only=True):
    """One dead letter in a file; the field names are a contract.

    Attributes:
        topic: Topic that held it.
        partition: Its partition.
        offset: Its offset.
        appended_ms: When it was appended, epoch milliseconds.
        dialect: System that parked it.
        reason: Why it was parked.
        error: Class of the error.
        message: Message of the error.
        fingerprint: Fingerprint of its group.
        job_id: Id of the job; ``None`` for records of other systems.
        job: Type of the job; ``None`` for records of other systems.
        attempts: Attempts made.
        last_failed_ms: When it was given up, epoch milliseconds.
        payload: The payload, if it is JSON.
        key_base64: The record's key; ``None`` if it has none.
        value_base64: The record's value; ``None`` if it has none.
        headers_base64: The record's headers, in order.
    """

    topic: str = ""
    partition: int = 0
    offset: int = 0
    appended_ms: int = 0
    dialect: str = ""
    reason: str = ""
    error: str = ""
    message: str = ""
    fingerprint: str = ""
    job_id: str | None = None
    job: str | None = None
    attempts: int | None = None
    last_failed_ms: int = 0
    payload: Any = None
    key_base64: str | None
    value_base64: str | None
    headers_base64: list[tuple[str, str | None]]


COLUMNS: Final = LetterLine.__struct_fields__


class _Kept(msgspec.Struct, kw_only=True):
    """A record that was read, and its line for errors."""

    topic: str = ""
    partition: int = 0
    offset: int = 0
    key_base64: str | None
    value_base64: str | None
    headers_base64: list[tuple[str, str | None]]


_DECODE: Final = msgspec.json.Decoder(_Kept).decode
_HEADERS: Final = msgspec.json.Decoder(list[tuple[str, str | None]]).decode


def line_of(letter: Letter) -> LetterLine:
    """The line of a dead letter."""
    delivery, story = letter.delivery, letter.story
    return LetterLine(
        topic=delivery.topic,
        partition=delivery.partition,
        offset=delivery.offset,
        appended_ms=delivery.appended_ms,
        dialect=story.dialect,
        reason=story.reason,
        error=story.error_type,
        message=story.error_message,
        fingerprint=story.fingerprint,
        job_id=story.job_id,
        job=story.job_type,
        attempts=story.attempts,
        last_failed_ms=story.last_failed_ms,
        payload=letter.shown_payload,
        key_base64=_to_text(delivery.key),
        value_base64=_to_text(delivery.value),
        headers_base64=[(name, _to_text(value)) for name, value in delivery.headers],
    )


def heading(kind: str) -> str:
    """The heading of a file, above its lines."""
    return ",".join(COLUMNS) + "\n" if kind == CSV else ""


def write_line(line: LetterLine, kind: str) -> str:
    """The text of a line, with its end."""
    if kind == JSON_LINES:
        return encode_line(line).decode() + "\n"
    cells = []
    for name in COLUMNS:
        value = getattr(line, name)
        if name.endswith("_base64"):
            text = encode_line(value).decode() if isinstance(value, list) else value
            cells.append(_NULL if text is None else text)
        else:
            cells.append(_cell(value))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def read_lines(lines: Iterable[str]) -> Iterator[Record]:
    """Read the records of an exported file; its first line shows the format.

    Raises:
        DecodeError: A line is no dead letter; the error has its number.
    """
    numbered = _bounded(lines)
    first = next(numbered, "")
    if first.startswith("{"):
        yield from (
            _record(_json_line(n, x)) for n, x in enumerate(chain([first], numbered), 1)
        )
        return
    if not first:
        return
    if first.rstrip("\r\n") != heading(CSV).rstrip():
        raise DecodeError(_BAD, "line 1 is neither JSON nor the heading of an export")
    # This limit is the process's own. Its default of 131,072 characters is less than
    # a record may have.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE))
    try:
        for number, cells in enumerate(csv.reader(numbered), 2):
            yield _record(_csv_line(number, cells))
    except csv.Error as error:
        raise DecodeError(_BAD, f"no CSV: {error}"[:300]) from None


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if len(line) > _MAX_LINE:
            raise DecodeError(_BAD, f"line {number} has {len(line)} characters")
        yield line


def _json_line(number: int, text: str) -> _Kept:
    try:
        raw = text.encode("utf-8", "surrogateescape")
        # The payload beside the record may be as deep as a payload may be.
        check_depth(raw, MAX_DEPTH + 1)
        return _DECODE(raw)
    except (DecodeError, msgspec.MsgspecError, ValueError) as error:
        raise DecodeError(_BAD, f"line {number}: {error}"[:300]) from None


def _csv_line(number: int, cells: list[str]) -> _Kept:
    if len(cells) != len(COLUMNS):
        detail = f"row {number} has {len(cells)} cells; {len(COLUMNS)} are wanted"
        raise DecodeError(_BAD, detail)
    found = dict(zip(COLUMNS, cells, strict=True))
    try:
        return _Kept(
            key_base64=_or_none(found["key_base64"]),
            value_base64=_or_none(found["value_base64"]),
            headers_base64=_HEADERS(found["headers_base64"]),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise DecodeError(_BAD, f"row {number}: {error}"[:300]) from None


def _record(line: _Kept) -> Record:
    try:
        headers: Headers = [
            (name, _to_bytes(value)) for name, value in line.headers_base64
        ]
        value = _to_bytes(line.value_base64)
        key = _to_bytes(line.key_base64)
    except (binascii.Error, ValueError) as error:
        place = f"{line.topic}/{line.partition}/{line.offset}"
        raise DecodeError(_BAD, f"{place}: {error}"[:300]) from None
    return Record("", b"" if value is None else value, headers, key)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = printable(value, sys.maxsize)
    else:
        text = encode_line(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def _or_none(text: str) -> str | None:
    return None if text == _NULL else text


def _to_text(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


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
