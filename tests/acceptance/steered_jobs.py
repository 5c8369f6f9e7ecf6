"""Jobs that end when a test wants it, and one that the clock starts once a year."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from shifter import Priority, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
_EFFECTS = Path(os.environ.get("EFFECTS", "effects"))


def effect(*words: object) -> None:
    """Append one line; short appends are atomic."""
    with _EFFECTS.open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


@app.job(queue="held", timeout="300s")
async def held(number: int) -> None:
    """End when the file ``end-NUMBER`` is there."""
    effect("begun", number)
    while not (_EFFECTS.parent / f"end-{number}").exists():
        await asyncio.sleep(0.05)


@app.job(cron="0 3 1 1 *")
async def digest() -> None:
    """Run by the clock."""
    effect("digest")


@app.job(queue="mail", priority=Priority.LOW)
async def send(number: int) -> None:
    """Do nothing."""
