"""Jobs whose letters are replayed beside live traffic, and the traffic itself.

``python -m tests.acceptance.replay_jobs RATE`` offers live jobs at a steady rate until
it hears SIGTERM. Each effect is one line: job id, replayed or live, wall clock at the
offer and at the effect.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time

from shifter import Context, Deferred, Priority, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
_EFFECTS = os.environ.get("EFFECTS")
_FILE = None if _EFFECTS is None else os.open(_EFFECTS, os.O_WRONLY | os.O_APPEND)


@app.job(queue="mail", priority=Priority.LOW, attempts=4)
async def send(order_id: int, ctx: Context, offered_at: float | None = None) -> None:
    if (order_id, offered_at) == (-1, None):
        raise OSError("this order cannot be sent")
    kind = "replay" if offered_at is None else "live"
    at = f"{offered_at or 0:.6f} {time.time():.6f}"
    if _FILE is not None:
        os.write(_FILE, f"{ctx.job_id} {kind} {at}\n".encode())


async def offer(rate_per_s: float) -> int:
    """Offer on time, whatever became of those before; how many were accepted."""
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    accepted, began = 0, time.time()

    async def one(number: int, at: float) -> None:
        nonlocal accepted
        answer = await send.defer(number, offered_at=at)
        accepted += isinstance(answer, Deferred)

    async with app, asyncio.TaskGroup() as group:
        for number in itertools.count():
            at = began + number / rate_per_s
            await asyncio.sleep(max(0.0, at - time.time()))
            if is_over.is_set():
                break
            group.create_task(one(number, at))
    return accepted


if __name__ == "__main__":
    print(asyncio.run(offer(float(sys.argv[1]))), flush=True)
