"""A job that keeps a slot for a quarter of a second.

    shifter work examples.scaling.app:app

What happened is written to the folder ``SCALING_RUN``; see ``__main__.py``, which sets
it and the settings of the app.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from examples.inference.notes import Note, NoteWriter
from shifter import Context, Priority, Shifter

SERVICE_S = 0.25

app = Shifter("scaling")
_notes = NoteWriter(Path(os.environ.get("SCALING_RUN", ".")))


@app.job(priority=Priority.HIGH)
async def resize(ctx: Context, arrived_at: float) -> None:
    """Resize a picture; it takes no processor here."""
    began_at = time.monotonic()
    await asyncio.sleep(SERVICE_S)
    ended_at = time.monotonic()
    _notes.write(
        Note(
            ctx.job_id,
            ctx.job_type,
            Priority.HIGH,
            os.getpid(),
            arrived_at,
            began_at,
            ended_at,
            "done",
        )
    )
