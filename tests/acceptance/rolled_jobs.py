"""Jobs that run while their workers are replaced, and a producer of them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from shifter import Context, Deferred, Shifter
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "rolled"))


@app.job(timeout="60s")
async def work(number: int, seconds: float, ctx: Context) -> None:
    effect("begun", number, ctx.attempt)
    await asyncio.sleep(seconds)
    effect("ended", number, ctx.attempt)


async def produce(stop: Path) -> None:
    """Defer short jobs, and one in twenty that takes long, until a file is there."""
    number = 0
    async with app:
        while not stop.exists():
            seconds = 2.0 if number % 20 == 0 else 0.05
            if isinstance(await work.defer(number, seconds), Deferred):
                effect("sent", number)
            number += 1
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(produce(Path(sys.argv[1])))
