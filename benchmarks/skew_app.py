"""The app of `benchmarks.skew`: a job notes its wait, and takes as long as it is told.

``BENCH_WAITS`` is the file that gets a line for each job: when it was due, and its
wait. ``BENCH_TAKES_S`` is how long a job takes in this worker: ten times as long while
the file ``BENCH_IS_SLOW`` exists.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from shifter import Shifter

app = Shifter(os.environ.get("BENCH_NAMESPACE", "bench"))

_waits = Path(os.environ.get("BENCH_WAITS", os.devnull))
_is_slow = Path(os.environ.get("BENCH_IS_SLOW", "/nowhere"))
_takes_s = float(os.environ.get("BENCH_TAKES_S", "0"))


@app.job
async def step(sent: float) -> None:
    """Note the wait since a job was due, in seconds; then take as long as one does."""
    with _waits.open("a") as out:
        out.write(f"{sent} {time.time() - sent}\n")
    await asyncio.sleep(_takes_s * (10 if _is_slow.exists() else 1))
