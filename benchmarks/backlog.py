"""Memory of one worker process on a backlog: peak RSS and PSS.

``python -m benchmarks.backlog [NAME…]``: starts its own servers, prints one JSON object
a row of `BACKLOGS`. The worker is ``shifter work`` with its default settings, and a
backlog lies in the log before the worker starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import ours
from shifter import Shifter
from stack.kafka import KafkaCluster
from stack.redis import RedisServer

app = Shifter(os.environ.get("BENCH_NAMESPACE", "backlog"))

_DONE: Final = "BENCH_DONE"
_LOOK_S: Final = 0.1
_FILL_BYTES: Final = 8_000_000


class Backlog(NamedTuple):
    """What lies in the log, and what a job of it does.

    Attributes:
        jobs: How many.
        size: Bytes of a payload, about.
        takes_s: How long a job runs.
        most_s: The measurement ends after so many seconds, or with the last job.
        keys: Ordering keys; 0 for none.
        concurrency: Slots of the worker.
    """

    jobs: int
    size: int
    takes_s: float
    most_s: float
    keys: int = 0
    concurrency: int = 100


BACKLOGS: Final = {
    "small": Backlog(400_000, 100, 0.0, 120.0),
    "small-slow": Backlog(400_000, 100, 1.0, 45.0),
    "keyed-200kB": Backlog(6_000, 200_000, 0.05, 60.0, keys=50),
    "large-890kB": Backlog(1_500, 890_000, 0.2, 60.0, concurrency=10),
    "large-890kB-100": Backlog(1_500, 890_000, 1.0, 60.0),
}
"""By name; the first, third and fourth are the ones that users reported."""


class Peak(NamedTuple):
    """What one worker process took at most, in MiB, and what it did.

    Attributes:
        rss: Resident memory by the kernel's own high-water mark.
        pss: Proportional share, of samples every 0.1 s.
        done: Jobs that ended meanwhile.
        seconds: How long it was looked at.
    """

    rss: float
    pss: float
    done: int
    seconds: float


@app.job(timeout="5m")
async def take(seconds: float, body: str) -> None:
    """Take some time, and count."""
    global _count, _is_heard
    if not _is_heard:
        _is_heard = True
        threading.Thread(target=_say, daemon=True).start()
    if seconds:
        await asyncio.sleep(seconds)
    _count += 1


_count, _is_heard = 0, False


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """A broker and a Redis, as the environment of those that use them."""
    with KafkaCluster() as cluster:
        cluster.warm()
        redis = RedisServer().start()
        try:
            yield ours.environment(cluster.url, redis.url, "backlog")
        finally:
            redis.stop()


def measure(backlog: Backlog, environment: dict[str, str]) -> Peak:
    """Fill a namespace of its own, and look at a worker on it.

    Args:
        backlog: What is measured.
        environment: Of `servers`.

    Returns:
        The peak of the worker process that took most.

    Raises:
        RuntimeError: The worker ended by itself.
    """
    name = f"b{time.monotonic_ns()}"
    environ = {**environment, "BENCH_NAMESPACE": name}
    program = [
        sys.executable,
        "-m",
        "benchmarks.backlog",
        "--fill",
        json.dumps(backlog),
    ]
    subprocess.run(program, env=environ, check=True)
    command = ("shifter.cli", "work", "benchmarks.backlog:app")
    slots = ("--concurrency", str(backlog.concurrency))
    with tempfile.TemporaryDirectory() as folder:
        worker = subprocess.Popen(
            [sys.executable, "-m", *command, *slots],
            env={**environ, _DONE: folder},
        )
        try:
            return _watched(worker, backlog, Path(folder))
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _watched(worker: subprocess.Popen[bytes], backlog: Backlog, folder: Path) -> Peak:
    rss = pss = 0.0
    done, began, seconds = 0, time.monotonic(), 0.0
    while done < backlog.jobs and seconds < backlog.most_s:
        time.sleep(_LOOK_S)
        seconds = time.monotonic() - began
        if worker.poll() is not None:
            raise RuntimeError(f"the worker left with {worker.returncode}")
        for pid in _family(worker.pid):
            with contextlib.suppress(OSError):
                process = Path("/proc") / str(pid)
                rss = max(rss, _field(process / "status", "VmHWM:"))
                pss = max(pss, _field(process / "smaps_rollup", "Pss:"))
        done = sum(int(file.read_text() or 0) for file in folder.iterdir())
    return Peak(round(rss, 1), round(pss, 1), done, round(seconds, 1))


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _field(path: Path, name: str) -> float:
    """A field of a file of ``/proc`` in MiB; 0 where it is missing."""
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


async def _fill(backlog: Backlog) -> None:
    await ours.make_topics(app)
    body = "x" * backlog.size
    step = max(1, min(5_000, _FILL_BYTES // backlog.size))
    async with app:
        for first in range(0, backlog.jobs, step):
            numbers = range(first, min(first + step, backlog.jobs))
            if not backlog.keys:
                await take.defer_many([(backlog.takes_s, body)] * len(numbers))
                continue
            await asyncio.gather(
                *(
                    take.options(key=f"k{n % backlog.keys}").defer(
                        backlog.takes_s, body
                    )
                    for n in numbers
                )
            )


def _say() -> None:
    """Write the count of this process twice a second."""
    path = Path(os.environ[_DONE], str(os.getpid()))
    while True:
        path.write_text(str(_count))
        time.sleep(0.5)


def main() -> None:
    """Measure what is named, or all of it."""
    if sys.argv[1:2] == ["--fill"]:
        asyncio.run(_fill(Backlog(*json.loads(sys.argv[2]))))
        return
    with servers() as environment:
        for name in sys.argv[1:] or BACKLOGS:
            peak = measure(BACKLOGS[name], environment)
            print(json.dumps({"backlog": name, **peak._asdict()}), flush=True)


if __name__ == "__main__":
    main()
