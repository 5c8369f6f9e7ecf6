"""shifter, measured the way its raw counterparts are."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shifter import wiring
from shifter.api.app import Shifter
from shifter.model.answer import Deferred

_TEXT = "x" * 90


def environment(log: str, state: str, namespace: str) -> dict[str, str]:
    """What a worker process of a benchmark inherits."""
    return {
        **os.environ,
        "SHIFTER_LOG": log,
        "SHIFTER_STATE": state,
        "SHIFTER_LOG_LEVEL": "warning",
        "BENCH_NAMESPACE": namespace,
    }


async def make_topics(app: Shifter) -> None:
    """Create what the app needs."""
    admin = wiring.open_admin(app.settings)
    await admin.apply(wiring.topic_specs(app.settings, app.queues))
    await admin.close()


async def defer(app: Shifter, count: int, awaiting: int) -> float:
    """Awaited ``defer`` calls a second."""
    job = app.jobs["noop"]

    async def caller() -> None:
        for index in range(count // awaiting):
            assert type(await job.defer(index, _TEXT)) is Deferred

    for _ in range(20):
        await job.defer(0, _TEXT)
    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(awaiting)))
    return count // awaiting * awaiting / (time.perf_counter() - started)


async def defer_alone(app: Shifter, count: int) -> tuple[float, float]:
    """Latency of one ``defer`` after another: p50 and p99 in milliseconds."""
    job = app.jobs["noop"]
    took = []
    for index in range(count):
        started = time.perf_counter()
        await job.defer(index, _TEXT)
        took.append(time.perf_counter() - started)
    took.sort()
    return took[count // 2] * 1_000, took[count * 99 // 100] * 1_000


async def defer_many(app: Shifter, count: int) -> float:
    """Jobs a second of one ``defer_many``."""
    job = app.jobs["noop"]
    calls = [(index, _TEXT) for index in range(count)]
    started = time.perf_counter()
    answers = await job.defer_many(calls)
    passed = time.perf_counter() - started
    assert all(type(answer) is Deferred for answer in answers)
    return count / passed


def drain(log: str, state: str, namespace: str, count: int) -> tuple[float, float]:
    """Jobs a second of one worker process, claims on; and its peak MiB."""
    rate, rss = _worker_result(log, state, namespace, count, concurrency=1_000)
    return rate, rss


async def pickup(
    log: str, state: str, namespace: str, app: Shifter, rate: int, count: int
) -> tuple[float, float]:
    """From submission to the handler's start, at a fixed rate: p50 and p99 ms."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        worker = _start(log, state, namespace, count, result, concurrency=100)
        try:
            await asyncio.sleep(5)
            job = app.jobs["stamp"]
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for index in range(count):
                    ahead = began + index / rate - time.perf_counter()
                    if ahead > 0:
                        await asyncio.sleep(ahead)
                    group.create_task(job.defer(time.time()))
            return _await_result(worker, result)
        finally:
            _end(worker)


def idle_percent(log: str, state: str, namespace: str, for_s: float) -> float:
    """Share of a core that a worker with nothing to do uses."""
    with tempfile.TemporaryDirectory() as folder:
        worker = _start(log, state, namespace, 1, Path(folder) / "result", 100)
        try:
            time.sleep(5)  # until it has settled in
            before = _cpu_s(worker.pid)
            time.sleep(for_s)
            return (_cpu_s(worker.pid) - before) / for_s * 100
        finally:
            _end(worker)


def _cpu_s(pid: int) -> float:
    """Seconds that a process and its children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return used + sum(_cpu_s(int(child)) for child in children)


def _worker_result(
    log: str, state: str, namespace: str, count: int, concurrency: int
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        worker = _start(log, state, namespace, count, result, concurrency)
        try:
            return _await_result(worker, result)
        finally:
            _end(worker)


def _start(
    log: str, state: str, namespace: str, count: int, result: Path, concurrency: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "shifter.cli", "work", "benchmarks.app:app"),
            *("--concurrency", str(concurrency)),
        ],
        env={
            **environment(log, state, namespace),
            "BENCH_COUNT": str(count),
            "BENCH_RESULT": str(result),
        },
    )


def _await_result(
    worker: subprocess.Popen[bytes], result: Path, timeout_s: float = 180
) -> tuple[float, float]:
    until = time.monotonic() + timeout_s
    while not (result.exists() and result.read_text()):
        if worker.poll() is not None or time.monotonic() > until:
            raise RuntimeError("the worker did not finish the benchmark")
        time.sleep(0.05)
    first, second = result.read_text().split()
    return float(first), float(second)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(60)


def import_ms() -> float:
    """Milliseconds of ``import shifter`` in a new interpreter, best of five."""
    program = (
        "import time; t = time.perf_counter(); import shifter; "
        "print((time.perf_counter() - t) * 1000)"
    )
    return min(
        float(subprocess.check_output([sys.executable, "-c", program]))
        for _ in range(5)
    )


def version_ms() -> float:
    """Milliseconds of ``shifter version`` as a whole process, best of five."""
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.check_output([sys.executable, "-m", "shifter.cli", "version"])
        took.append(time.perf_counter() - started)
    return min(took) * 1_000
