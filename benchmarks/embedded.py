"""The embedded default: a file and no server. Every append is synced."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable

from benchmarks import ours
from benchmarks.report import Finding
from shifter.app import Shifter


def measure(fresh_app: Callable[[], Awaitable[Shifter]], scale: float) -> list[Finding]:
    """Accepting, draining and picking up on a file in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{folder}/bench.db"
        os.environ.update(ours.environment(url, url, "bench"))
        return asyncio.run(_measure(fresh_app, url, scale))


async def _measure(
    fresh_app: Callable[[], Awaitable[Shifter]], url: str, scale: float
) -> list[Finding]:
    count = int(60_000 * scale)
    async with await fresh_app() as app:
        rate = await ours.defer(app, count, 100)
        p50, _ = await ours.defer_alone(app, int(2_000 * scale) + 100)
    async with await fresh_app() as filled:
        await ours.defer_many(filled, count)
    drained, rss = await asyncio.to_thread(
        ours.drain, url, url, filled.namespace, count
    )
    async with await fresh_app() as app:
        pick50, pick99 = await ours.pickup(
            url, url, app.namespace, app, 1_000, int(10_000 * scale)
        )
    at = "embedded: "
    return [
        Finding(f"{at}defer, 100 awaiting", rate, "jobs/s", None, None, 40_000),
        Finding(f"{at}defer alone, p50", p50, "ms", None, None, 1, at_most=True),
        Finding(f"{at}drain, claims on", drained, "jobs/s", None, None, 15_000),
        Finding(f"{at}worker memory", rss, "MiB", None, None, 200, at_most=True),
        Finding(f"{at}pick-up, p50", pick50, "ms", None, None, 3, at_most=True),
        Finding(f"{at}pick-up, p99", pick99, "ms", None, None, 15, at_most=True),
    ]
