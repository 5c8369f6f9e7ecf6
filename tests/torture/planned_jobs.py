"""Jobs that note how late they start, and their submission at random instants.

``python -m tests.torture.planned_jobs PER_S SECONDS SEED`` submits them.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from shifter import Shifter

SERVICE_S = 0.2

app = Shifter(os.environ.get("TEST_NAMESPACE", "planned"))
_waits = Path(os.environ.get("TEST_WAITS", "/dev/null"))


@app.job(queue="planned")
async def serve(due: float) -> None:
    """Be busy for `SERVICE_S`; a due time of 0 is not noted."""
    with _waits.open("a") as file:
        file.write(f"{time.time() - due if due else -1:.6f}\n")
    await asyncio.sleep(SERVICE_S)


async def submit(per_s: float, seconds: float, seed: int) -> None:
    """Submit at the instants of a Poisson process."""
    chance, begin = random.Random(seed), time.time() + 0.5
    at_s = chance.expovariate(per_s)
    async with app, asyncio.TaskGroup() as group:
        while at_s < seconds:
            await asyncio.sleep(max(0.0, begin + at_s - time.time()))
            group.create_task(serve.defer(begin + at_s))
            at_s += chance.expovariate(per_s)


async def warm_up(count: int) -> None:
    """Submit jobs that are not noted."""
    async with app:
        await serve.defer_many([(0.0,)] * count)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        asyncio.run(warm_up(int(sys.argv[1])))
    else:
        asyncio.run(submit(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
