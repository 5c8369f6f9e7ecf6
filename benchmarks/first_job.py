"""``python -m benchmarks.first_job``: where the time of a worker's first job goes.

A job waits on Kafka; `shifter work` is started, again and again; the time from its
start to each step is noted by the app's module, which the command and its worker import,
and by the worker's own log. Needs Kafka and Redis as the tests do.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from stack.kafka import KafkaCluster
from stack.redis import RedisServer

_ROOT: Final = Path(__file__).parents[1]
_TARGET: Final = "first_job_app:app"
_TIMES: Final = 11
_PATIENCE_S: Final = 60.0
_APP: Final = """
import os, time
from pathlib import Path
from shifter import Shifter

with Path(os.environ["MARKS"]).open("a") as marks:
    marks.write(f"{time.time()}\\\\n")
app = Shifter("first")

@app.job(queue="mail")
async def go() -> None: ...
"""
STEPS: Final = (
    "the command has imported the app",
    "the worker has imported the app",
    "it has joined its groups",
    "its first job has ended",
)


def main() -> None:
    """Print the median of each step."""
    with tempfile.TemporaryDirectory() as made, KafkaCluster() as kafka:
        kafka.warm()
        with RedisServer() as redis:
            folder = Path(made)
            (folder / "first_job_app.py").write_text(_APP.replace("\\\\", "\\"))
            environ = {
                **os.environ,
                "SHIFTER_LOG": kafka.url,
                "SHIFTER_STATE": redis.url,
                "SHIFTER_LOG_FORMAT": "json",
                "MARKS": str(folder / "marks"),
                "PYTHONPATH": f"{_ROOT}{os.pathsep}{folder}",
            }
            _run(environ, "topics", "apply", _TARGET)
            # The first run compiles what is imported.
            found = [_once(environ, folder) for _ in range(_TIMES)][1:]
    print("seconds from the start of `shifter work`, median (fastest to slowest)")
    for step, taken in zip(STEPS, zip(*found, strict=True), strict=True):
        middle = statistics.median(taken)
        print(f"{middle:6.2f}  ({min(taken):.2f} to {max(taken):.2f})  {step}")


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "shifter.cli", *arguments]


def _run(environ: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        _command(*arguments), env=environ, check=True, stdout=subprocess.DEVNULL
    )


def _once(environ: dict[str, str], folder: Path) -> tuple[float, ...]:
    """Seconds from the start to each of `STEPS`.

    Raises:
        TimeoutError: No job ended.
    """
    _run(environ, "submit", _TARGET, "go", "--json", "{}")
    marks, said = folder / "marks", folder / "said"
    marks.write_text("")
    with said.open("w") as out:
        began = time.time()
        worker = subprocess.Popen(_command("work", _TARGET), env=environ, stderr=out)
    try:
        while (lines := _lines(said)).get("job.ended") is None:
            if time.time() - began > _PATIENCE_S:
                raise TimeoutError(said.read_text())
            time.sleep(0.01)
    finally:
        worker.terminate()
        worker.wait()
    command, child = sorted(map(float, marks.read_text().split()))[:2]
    at = (command, child, lines["worker.started"], lines["job.ended"])
    return tuple(one - began for one in at)


def _lines(said: Path) -> dict[str, float]:
    """When each event was logged first, by its name."""
    found: dict[str, float] = {}
    for line in said.read_text().splitlines():
        if line.startswith("{") and line.endswith("}"):
            facts: dict[str, Any] = json.loads(line)
            at = datetime.fromisoformat(facts["timestamp"]).timestamp()
            found.setdefault(facts["event"], at)
    return found


if __name__ == "__main__":
    main()
