"""One process that calls the endpoints of a dependency, as its parent tells it.

A line on its input names the hosts whose calls fail from then on; each line of its
output has the hosts that get no calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from shifter import Shifter
from shifter.errors import RejectedError
from shifter.protection import BalancePolicy, EjectionPolicy, EvidencePolicy

HOSTS = [f"h{number}" for number in range(6)]
# A call takes microseconds, so that a pause of this machine makes an endpoint slow.
BALANCE = BalancePolicy(
    choice="round_robin", ejection=EjectionPolicy(slow_factor=1_000_000)
)
PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)

app = Shifter("shop")
render = app.dependency(
    "render",
    endpoints=[f"{host}:1" for host in HOSTS],
    balance=BALANCE,
    evidence=PATIENT,
)


async def call(failing: set[str]) -> None:
    with contextlib.suppress(OSError, RejectedError):
        async with render.call() as one:
            if one.endpoint.host in failing:
                raise OSError("refused")


async def main() -> None:
    loop, failing = asyncio.get_running_loop(), set[str]()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def obey() -> None:
        while line := await lines.readline():
            failing.clear()
            failing.update(line.decode().split())

    async with app:
        told = loop.create_task(obey())
        while not told.done():
            for _ in range(len(HOSTS)):
                await call(failing)
            views = render.endpoint_views()
            print(json.dumps([v.endpoint.host for v in views if v.out_s]), flush=True)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
