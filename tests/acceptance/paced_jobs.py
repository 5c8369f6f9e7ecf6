"""LOW jobs with a deadline, which write down when they run."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from shifter import Priority, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))


@app.job(priority=Priority.LOW, deadline="1h")
async def tidy(number: int) -> None:
    began = time.monotonic()
    await asyncio.sleep(0.1)
    line = f"tidy {number} {began} {time.monotonic()}\n"
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(line)


async def submit(count: int) -> None:
    async with app:
        await tidy.defer_many([(number,) for number in range(count)])


if __name__ == "__main__":
    asyncio.run(submit(int(sys.argv[1])))
