"""``python -m tests.acceptance.delayer COUNT SPREAD_S PER_S``: jobs due at random.

Prints a line for each: its number and when it is due, epoch milliseconds; on standard
error what offering them took, and the largest size of this process.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from datetime import UTC, datetime

from shifter import Deferred
from tests.acceptance.jobs import app, note

_AWAITING = 200
_AHEAD_S = 2.0


async def main(count: int, spread_s: float, per_s: float) -> None:
    """Defer all at a steady rate; each is due two seconds later at the earliest."""
    draw, numbers = random.Random(7), iter(range(count))
    began = time.monotonic()

    async def caller() -> None:
        for number in numbers:
            await asyncio.sleep(began + number / per_s - time.monotonic())
            due_s = time.time() + _AHEAD_S + draw.random() * spread_s
            due_at = datetime.fromtimestamp(int(due_s * 1_000) / 1_000, UTC)
            answer = await note.options(due_at=due_at).defer(number)
            assert type(answer) is Deferred, answer
            sys.stdout.write(f"{number} {round(due_at.timestamp() * 1_000)}\n")

    async with app, asyncio.TaskGroup() as group:
        for _ in range(_AWAITING):
            group.create_task(caller())
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stderr.write(f"{time.monotonic() - began:.0f} s, {peak_kib} KiB")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
