"""Jobs that take a known time of a slot, for the tests of scaling."""

from __future__ import annotations

import asyncio
import os
import sys

from shifter import Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))


@app.job(queue="mail")
async def send(number: int) -> None:
    await asyncio.sleep(0.2)


async def submit(count: int) -> None:
    async with app:
        await send.defer_many([(number,) for number in range(count)])


if __name__ == "__main__":
    asyncio.run(submit(int(sys.argv[1])))
