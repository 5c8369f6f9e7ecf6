"""``python -m benchmarks.producer RATE COUNT``: prints its p99 in milliseconds."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.app import app, noop


async def main(rate: float, count: int) -> None:
    """Defer one job after another at a rate; the first tenth is not counted."""
    took = []
    async with app:
        began = time.perf_counter()
        for index in range(count):
            await asyncio.sleep(max(0.0, began + index / rate - time.perf_counter()))
            started = time.perf_counter()
            await noop.defer(index, "x" * 90)
            took.append(time.perf_counter() - started)
    took = sorted(took[count // 10 :])
    sys.stdout.write(f"{took[len(took) * 99 // 100] * 1_000}\n")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), int(sys.argv[2])))
