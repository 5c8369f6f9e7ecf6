"""How long jobs wait while one of four workers is ten times slower than the others.

Four worker processes of ten slots drain one lane; jobs come at a steady rate that the
three others could take alone. A slow worker is one whose handlers take ten times as
long: its client, heartbeats and commits are as fast as ever, so that nobody takes its
work away. In a third run the worker becomes slow after ten seconds of measuring, with
what lies in its partitions by then; ten seconds from that moment on are measured.
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
from typing import NamedTuple

from benchmarks import ours
from benchmarks.report import Finding
from shifter import Shifter
from shifter.config import Secret, Settings
from stack.kafka import KafkaCluster
from stack.redis import RedisServer

_WORKERS, _SLOTS, _TAKES_S, _RATE = 4, 10, 0.1, 100
_SETTLED_S = 20.0
"""For so long jobs flow before waits count: consumers join, and a slow one fills."""


_TURNS_SLOW_S, _TURN_S = 10.0, 10.0


class Play(NamedTuple):
    """What was measured of one run.

    Attributes:
        waits_ms: The wait of each job that came after the workers had settled in, in
            the order in which jobs were due.
        runs: How many jobs each worker ran.
    """

    waits_ms: list[float]
    runs: list[int]


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
    even = _play(log, state, seconds)
    skewed = _play(log, state, seconds, slow_after_s=0.0)
    turning = _play(
        log, state, _TURNS_SLOW_S + _TURN_S, slow_after_s=_SETTLED_S + _TURNS_SLOW_S
    )
    for what, play in (("none slow", even), ("one slow", skewed), ("turns", turning)):
        waits = sorted(play.waits_ms)
        sys.stderr.write(
            f"{name}, {what}: runs of each worker {play.runs}, "
            f"wait at most {waits[-1]:,.0f} ms\n"
        )
    findings = [
        Finding(
            f"{name}: waits with a slow worker, {quantile}",
            statistics.quantiles(skewed.waits_ms, n=100)[place],
            "ms",
            "none slow",
            statistics.quantiles(even.waits_ms, n=100)[place],
            2.0,
            at_most=True,
        )
        for quantile, place in (("p50", 49), ("p99", 98))
    ]
    first = int(_TURNS_SLOW_S * _RATE)
    late_ms = 2 * statistics.quantiles(even.waits_ms, n=100)[98]
    late = [wait > late_ms for wait in turning.waits_ms[first:]]
    last = max((number for number, is_late in enumerate(late) if is_late), default=0)
    findings += [
        Finding(
            f"{name}: jobs late once one turns slow",
            *figure,
            None,
            None,
            most,
            at_most=True,
        )
        for figure, most in (
            ((100 * sum(late) / len(late), "%"), 2.0),
            ((last / _RATE, "s, the last one"), 10.0),
        )
    ]
    return findings


def _play(
    log: str, state: str, seconds: float, *, slow_after_s: float | None = None
) -> Play:
    """Let jobs flow for some seconds after the workers have settled in.

    Args:
        log: Its URL.
        state: The URL of the shared state.
        seconds: How long waits count.
        slow_after_s: When the first worker becomes slow; ``None`` never.
    """
    namespace = f"skew{uuid.uuid4().hex[:6]}"
    count = int((_SETTLED_S + seconds) * _RATE)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(_WORKERS)]
        slow = Path(folder) / "slow"
        with contextlib.ExitStack() as stack:
            asyncio.run(_made(log, state, namespace))
            for number, file in enumerate(files):
                is_slow = slow if number == 0 else Path(folder) / "never"
                stack.enter_context(_worker(log, state, namespace, file, is_slow))
            after = count if slow_after_s is None else int(slow_after_s * _RATE)
            asyncio.run(_submit(log, state, namespace, count, (after, slow)))
            _await(files, count)
        first = int(_SETTLED_S * _RATE)
        lines = [line.split() for file in files for line in _lines(file)]
        runs = [len(_lines(file)) for file in files]
    later = sorted((float(sent), float(waited)) for sent, waited in lines)[first:]
    return Play([waited * 1_000 for _, waited in later], runs)


@contextlib.contextmanager
def _worker(
    log: str, state: str, namespace: str, file: Path, is_slow: Path
) -> Iterator[None]:
    command = (
        *(sys.executable, "-m", "shifter.cli", "work"),
        "benchmarks.skew_app:app",
    )
    process = subprocess.Popen(
        [*command, "--concurrency", str(_SLOTS)],
        env=ours.environment(log, state, namespace)
        | {
            "BENCH_WAITS": str(file),
            "BENCH_TAKES_S": str(_TAKES_S),
            "BENCH_IS_SLOW": str(is_slow),
        },
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


async def _submit(
    log: str, state: str, namespace: str, count: int, slow: tuple[int, Path]
) -> None:
    """Submit jobs at a steady rate; a late one counts from when it was due.

    Args:
        log: Its URL.
        state: The URL of the shared state.
        namespace: Of the app.
        count: How many.
        slow: Before which of them a worker becomes slow, and how it learns that.
    """
    app = _app(log, state, namespace)
    async with app, asyncio.TaskGroup() as group:
        began, wall = time.perf_counter(), time.time()
        for number in range(count):
            due_s = number / _RATE
            if number == slow[0]:
                slow[1].touch()
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
