"""A backend of two services: people who chat, and editors that complete code.

    shifter work examples.inference.app:app

A handler keeps its slot for as long as the real backend would have been busy, divided
by ``INFERENCE_SPEEDUP``. The slots are the workers' concurrency. What happened is
written to the folder ``INFERENCE_RUN``; see ``play.py``, which sets both.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from examples.inference.notes import Note, NoteWriter
from examples.inference.trace import PRIORITIES, service_s
from shifter import Context, Priority, Shifter

app = Shifter(os.environ.get("SHIFTER_NAMESPACE", "inference"))
_notes = NoteWriter(Path(os.environ.get("INFERENCE_RUN", ".")))
_speedup = float(os.environ.get("INFERENCE_SPEEDUP", "1"))


@app.job(priority=PRIORITIES["converse"], keep_status="2h")
async def converse(
    ctx: Context, arrived_at: float, context_tokens: int, generated_tokens: int
) -> None:
    """Answer a user who waits; of use if started within a second."""
    await _serve(ctx, Priority.HIGH, arrived_at, context_tokens, generated_tokens)


@app.job(priority=PRIORITIES["complete"], deadline="30m", keep_status="2h")
async def complete(
    ctx: Context, arrived_at: float, context_tokens: int, generated_tokens: int
) -> None:
    """Complete code in the background; of use if started within half an hour."""
    await _serve(ctx, Priority.LOW, arrived_at, context_tokens, generated_tokens)


@app.job
async def warm_up(ctx: Context, lane: Priority) -> None:
    """Show that a process serves a lane."""
    now = time.monotonic()
    _notes.write(Note(ctx.job_id, "warm_up", lane, os.getpid(), now, now, now, "done"))


async def _serve(
    ctx: Context, lane: Priority, arrived_at: float, read: int, written: int
) -> None:
    started_at, outcome = time.monotonic(), "stopped"
    try:
        await asyncio.sleep(service_s(read, written) / _speedup)
        outcome = "done"
    finally:
        ended_at = time.monotonic()
        note = Note(
            ctx.job_id,
            ctx.job_type,
            lane,
            os.getpid(),
            arrived_at,
            started_at,
            ended_at,
            outcome,
        )
        _notes.write(note)
