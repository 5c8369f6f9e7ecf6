"""The app the benchmarks drain: no-op handlers that say when they are through."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from shifter import Shifter

app = Shifter(os.environ.get("BENCH_NAMESPACE", "bench"))

_expected = int(os.environ.get("BENCH_COUNT", "0"))
_result = Path(os.environ.get("BENCH_RESULT", "/dev/null"))
_seen = 0
_began = 0.0
_waits: list[float] = []


@app.job
async def noop(number: int, text: str) -> None:
    """Count; write the rate when the last one ran."""
    global _seen, _began
    if not _seen:
        _began = time.perf_counter()
    _seen += 1
    if _seen == _expected:
        passed = time.perf_counter() - _began
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _result.write_text(f"{_seen / passed} {rss}")


@app.job(queue="pickup")
async def stamp(sent: float) -> None:
    """Note how long after its submission a job starts."""
    _waits.append(time.time() - sent)
    if len(_waits) == _expected:
        # the first second pays for connections
        waits = sorted(_waits[_expected // 10 :])
        p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        _result.write_text(f"{p50 * 1000} {p99 * 1000}")
