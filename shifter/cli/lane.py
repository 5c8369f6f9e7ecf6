"""`shifter lane`: a look into a lane without taking anything from it."""

from __future__ import annotations

import asyncio
from typing import Final

from shifter.adapters.system import SystemClock
from shifter.cli.output import warn, write_rows
from shifter.cli.problem import usage
from shifter.cli.session import InSession, need_log
from shifter.ops.lanes import MOST_ROWS, PeekRow, peek_lane
from shifter.ops.texts import age_text
from shifter.wire.untrusted import encode_line

_HEADINGS: Final = (
    *("state", "job", "id", "attempt", "waits", "due in", "deadline in", "key"),
    *("bytes", "payload"),
)
_CHARS: Final = 120
"""Characters of a payload in a table; with --json it is whole."""


def lane_peek(
    lane: str, /, *, limit: int = 20, json: bool = False, session: InSession
) -> None:
    """Show the first waiting and delayed jobs of a lane, and take none of them.

    Nothing is claimed or committed, and no group of consumers is joined. A job that
    runs now is among those that wait, until its end is settled.

    Example: shifter lane peek mail/low --limit 5

    Args:
        lane: The lane, as QUEUE/PRIORITY.
        limit: How many waiting, and how many delayed jobs are shown at most.
        json: Print one JSON array, with whole payloads.
        session: This command line.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise usage("--limit", f"it is {limit}", f"use a number from 1 to {MOST_ROWS}")
    settings = need_log(session.settings())
    found = asyncio.run(peek_lane(settings, lane, limit))
    if not found.is_complete:
        warn("reading took too long, or too much memory: these may not be the first")
    now_ms = SystemClock().epoch_ms()
    rows = [_cells(row, now_ms) for row in found.rows]
    write_rows(_HEADINGS, rows, found.rows, as_json=json, empty="the lane is empty")


def _cells(row: PeekRow, now_ms: int) -> tuple[object, ...]:
    text = str(row.payload)
    if row.payload_encoding == "json":
        text = encode_line(row.payload).decode()
    return (
        row.state,
        row.job,
        row.job_id,
        row.attempt,
        age_text(max(0, now_ms - row.appended_ms) / 1_000),
        _until(row.due_ms, now_ms),
        _until(row.deadline_ms, now_ms),
        row.key,
        row.size_bytes,
        text if len(text) <= _CHARS else f"{text[:_CHARS]} …",
    )


def _until(at_ms: int | None, now_ms: int) -> str | None:
    return None if at_ms is None else age_text((at_ms - now_ms) / 1_000)
