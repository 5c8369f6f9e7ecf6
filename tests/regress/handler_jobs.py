"""Jobs that isolated processes of these tests import by name."""

from __future__ import annotations

import asyncio
import contextlib

from shifter import Shifter
from tests.regress.leaving import leave

app = Shifter("shop")


@app.job(isolate="process", attempts=1)
def leaves_process(how: str) -> None:
    leave(how)


@app.job(isolate="process", attempts=1)
async def leaves_async_process(how: str) -> None:
    leave(how)


@app.job(isolate="process", attempts=1, timeout="300ms")
async def swallows_in_process() -> None:
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)
