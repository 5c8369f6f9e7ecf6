"""``python -m tests.acceptance.delayer COUNT SPREAD_S``: jobs due at random.

Prints a line for each: its number and when it is due, epoch milliseconds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from datetime import UTC, datetime

from shifter import Deferred
from tests.acceptance.jobs import app, note

_AWAITING = 200
_AHEAD_S = 2.0


async def main(count: int, spread_s: float) -> None:
    """Defer all; the first is due in two seconds at the earliest."""
    draw, numbers = random.Random(7), iter(range(count))

    async def caller() -> None:
        for number in numbers:
            due_s = time.time() + _AHEAD_S + draw.random() * spread_s
            due_at = datetime.fromtimestamp(int(due_s * 1_000) / 1_000, UTC)
            answer = await note.options(due_at=due_at).defer(number)
            assert type(answer) is Deferred, answer
            sys.stdout.write(f"{number} {round(due_at.timestamp() * 1_000)}\n")

    async with app, asyncio.TaskGroup() as group:
        for _ in range(_AWAITING):
            group.create_task(caller())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
