"""How long jobs wait while one of four workers is ten times slower than the others.

Four worker processes of ten slots drain one lane; jobs come at a steady rate that the
three others could take alone. A slow worker is one whose handlers take ten times as
long: its client, heartbeats and commits are as fast as ever, so that nobody takes its
work away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ours
from benchmarks.report import Finding
from shifter import Shifter
from shifter.config import Secret, Settings
from stack.kafka import KafkaCluster
from stack.redis import RedisServer

_WORKERS, _SLOTS, _TAKES_S, _RATE = 4, 10, 0.1, 100
_SETTLED_S = 10.0
"""For so long jobs flow before waits count: consumers join, and a slow one fills."""


def measure(scale: float) -> list[Finding]:
    """All findings."""
    seconds = max(10.0, 30 * scale)
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/log.db"
        findings += _compared("file", url, url, seconds)
    with KafkaCluster(fast=True) as kafka, RedisServer() as redis:
        findings += _compared("Kafka", kafka.url, redis.url, seconds)
    return findings


def _compared(name: str, log: str, state: str, seconds: float) -> list[Finding]:
    even = _waits_ms(log, state, seconds, slow=0)
    skewed = _waits_ms(log, state, seconds, slow=1)
    return [
        Finding(
            f"{name}: waits with a slow worker, {quantile}",
            statistics.quantiles(skewed, n=100)[place],
            "ms",
            "none slow",
            statistics.quantiles(even, n=100)[place],
            2.0,
            at_most=True,
        )
        for quantile, place in (("p50", 49), ("p99", 98))
    ]


def _waits_ms(log: str, state: str, seconds: float, *, slow: int) -> list[float]:
    """The wait of each job that came after the workers had settled in."""
    namespace = f"skew{uuid.uuid4().hex[:6]}"
    count = int((_SETTLED_S + seconds) * _RATE)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(_WORKERS)]
        with contextlib.ExitStack() as stack:
            asyncio.run(_made(log, state, namespace))
            for number, file in enumerate(files):
                takes_s = _TAKES_S * (10 if number < slow else 1)
                stack.enter_context(_worker(log, state, namespace, file, takes_s))
            asyncio.run(_submit(log, state, namespace, count))
            _await(files, count)
        first = int(_SETTLED_S * _RATE)
        lines = [line.split() for file in files for line in _lines(file)]
    later = sorted((float(sent), float(waited)) for sent, waited in lines)[first:]
    return [waited * 1_000 for _, waited in later]


@contextlib.contextmanager
def _worker(
    log: str, state: str, namespace: str, file: Path, takes_s: float
) -> Iterator[None]:
    command = (
        *(sys.executable, "-m", "shifter.cli", "work"),
        "benchmarks.skew_app:app",
    )
    process = subprocess.Popen(
        [*command, "--concurrency", str(_SLOTS)],
        env=ours.environment(log, state, namespace)
        | {"BENCH_WAITS": str(file), "BENCH_TAKES_S": str(takes_s)},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _app(log: str, state: str, namespace: str) -> Shifter:
    os.environ["BENCH_NAMESPACE"] = namespace
    settings = Settings(
        namespace=namespace, log_url=Secret(log), state_url=Secret(state), spool="off"
    )
    app = Shifter(namespace, settings=settings)

    @app.job
    async def step(sent: float) -> None: ...

    return app


async def _made(log: str, state: str, namespace: str) -> None:
    await ours.make_topics(_app(log, state, namespace))


async def _submit(log: str, state: str, namespace: str, count: int) -> None:
    """Submit jobs at a steady rate; a late one counts from when it was due."""
    app = _app(log, state, namespace)
    async with app, asyncio.TaskGroup() as group:
        began, wall = time.perf_counter(), time.time()
        for number in range(count):
            due_s = number / _RATE
            await asyncio.sleep(max(0.0, began + due_s - time.perf_counter()))
            group.create_task(app.jobs["step"].defer(wall + due_s))


def _await(files: list[Path], count: int) -> None:
    until = time.monotonic() + 300
    while sum(len(_lines(file)) for file in files) < count:
        if time.monotonic() > until:
            raise RuntimeError("the workers did not finish the benchmark")
        time.sleep(0.5)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
