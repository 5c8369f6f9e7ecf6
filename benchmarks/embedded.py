"""The embedded default: a file and no server. Every append is synced."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from benchmarks import ours, peers
from benchmarks.report import Finding
from shifter.api.app import Shifter

_FEW = 10_000
_AT = "embedded: "
_IDLE_S = 10.0

T = TypeVar("T")
FreshApp: TypeAlias = Callable[[], Awaitable[Shifter]]
Part: TypeAlias = Callable[[str], Coroutine[Any, Any, list[Finding]]]


def measure(fresh_app: FreshApp, scale: float, waiting: int) -> list[Finding]:
    """Accepting, draining and picking up, each on a file of its own.

    Args:
        fresh_app: Makes the benchmark's app in a namespace of its own.
        scale: Share of the jobs.
        waiting: How many jobs lie in the large file, which is to be as fast.
    """
    count = int(60_000 * scale)
    parts = (_speed(fresh_app, count), _pickup(fresh_app, int(10_000 * scale)))
    found = [finding for part in parts for finding in _on_a_file(part)]
    return found + _flat(fresh_app, count, waiting)


def _on_a_file(part: Callable[[str], Coroutine[Any, Any, T]]) -> T:
    """Run ``part`` with a folder of its own and settings for a file there."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{folder}/bench.db"
        os.environ.update(ours.environment(url, url, "bench"))
        return asyncio.run(part(url))


def _speed(fresh_app: FreshApp, count: int) -> Part:
    async def measured(url: str) -> list[Finding]:
        async with await fresh_app() as app:
            rate = await ours.defer(app, count, 100)
            p50, p99 = await ours.defer_alone(app, count // 30 + 100)
        their_in, their_out = peers.huey(count // 6)  # it wants the main thread
        async with await fresh_app() as filled:
            await ours.defer_many(filled, count)
        drained, rss = await asyncio.to_thread(
            ours.drain, url, url, filled.namespace, count
        )
        return [
            Finding(f"{_AT}defer, 100 awaiting", rate, "jobs/s", None, None, 40_000),
            Finding(f"{_AT}defer, 100 awaiting", rate, "jobs/s", "huey", their_in, 5),
            Finding(f"{_AT}defer alone, p50", p50, "ms", None, None, 1, at_most=True),
            Finding(f"{_AT}defer alone, p99", p99, "ms", None, None, 10, at_most=True),
            Finding(f"{_AT}drain, claims on", drained, "jobs/s", None, None, 15_000),
            Finding(f"{_AT}drain, claims on", drained, "jobs/s", "huey", their_out, 1),
            Finding(f"{_AT}worker memory", rss, "MiB", None, None, 200, at_most=True),
        ]

    return measured


def _pickup(fresh_app: FreshApp, count: int) -> Part:
    async def measured(url: str) -> list[Finding]:
        async with await fresh_app() as app:
            p50, p99 = await ours.pickup(url, url, app.namespace, app, 1_000, count)
            four = await asyncio.to_thread(_four_producers, count // 20)
            busy = await asyncio.to_thread(
                ours.idle_percent, url, url, app.namespace, _IDLE_S
            )
        four_p99 = max(four)
        return [
            Finding(f"{_AT}pick-up, p50", p50, "ms", None, None, 3, at_most=True),
            Finding(f"{_AT}pick-up, p99", p99, "ms", None, None, 15, at_most=True),
            Finding(f"{_AT}idle worker", busy, "% CPU", None, None, 1, at_most=True),
            Finding(
                f"{_AT}four producers, p99",
                four_p99,
                "ms",
                None,
                None,
                10,
                at_most=True,
            ),
        ]

    return measured


def _four_producers(count: int) -> list[float]:
    """p99 milliseconds of each of four processes that defer 300 jobs a second."""
    program = [sys.executable, "-m", "benchmarks.producer", "300", str(count)]
    running = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range(4)]
    return [float(json.loads(one.communicate()[0])) for one in running]


def _flat(fresh_app: FreshApp, count: int, waiting: int) -> list[Finding]:
    """The same with few and with many jobs waiting."""
    few_in, few_out = _with_waiting(fresh_app, count, _FEW)
    many_in, many_out = _with_waiting(fresh_app, count, waiting)
    against, at = f"{_FEW:,} waiting", f"at {waiting:,} waiting"
    return [
        Finding(f"{_AT}defer {at}", many_in, "jobs/s", against, few_in, 0.7),
        Finding(f"{_AT}drain {at}", many_out, "jobs/s", against, few_out, 0.7),
    ]


def _with_waiting(fresh_app: FreshApp, count: int, waiting: int) -> tuple[float, float]:
    """Jobs a second in and out of a file in which so many wait."""

    async def measured(url: str) -> tuple[float, float]:
        async with await fresh_app() as app:
            await ours.defer_many(app, waiting)
            rate_in = await ours.defer(app, count, 100)
        args = (url, url, app.namespace, count)
        rate_out, _ = await asyncio.to_thread(ours.drain, *args)
        return rate_in, rate_out

    return _on_a_file(measured)
