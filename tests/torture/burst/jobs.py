"""What the burst asks for: one job, at every priority, of a known length."""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path
from typing import Final

from shifter import Priority, Shifter
from tests.torture.harness.event import History

SLOTS: Final = 10
WORK_S: Final = 0.1
CAPACITY_PER_S: Final = SLOTS / WORK_S
"""What the service can do by itself."""
DEADLINES: Final = {
    Priority.CRITICAL: 2.0,
    Priority.HIGH: 1.0,
    Priority.NORMAL: 5.0,
    Priority.LOW: 15.0,
}

app = Shifter(os.environ.get("TEST_NAMESPACE", "burst"))


@functools.cache
def history() -> History:
    """Of this process."""
    return History(Path(os.environ["BURST"]), f"process-{os.getpid()}")


@app.job(timeout="10s", keep_status="1h")
async def work(number: int) -> None:
    history().note("start", job=str(number), pids=[os.getpid()])
    await asyncio.sleep(WORK_S)
    history().note("finish", job=str(number))
