"""``python -m stack install | up [--brokers N] | down | status``.

``up`` prints the two ``export`` lines on standard output and everything else on
standard error, so that ``eval "$(make -s stack)"`` works. It is idempotent: a stack
that runs is used again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from stack.install import HOME, Missing, kafka_libs, redis_server, write_sums
from stack.kafka import KafkaCluster
from stack.process import end_detached, started_at
from stack.redis import RedisServer

_STATE = HOME / "running.json"
_DATA = HOME / "data"


def main() -> int:
    """Run one verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack")
    parser.add_argument("verb", choices=["install", "up", "down", "status", "sums"])
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1)
    arguments = parser.parse_args()
    try:
        return _VERBS[arguments.verb](arguments.brokers)
    except Missing as missing:
        sys.stderr.write(f"stack: {missing}\n")
        return 69


def _install(_: int) -> int:
    redis_server()
    kafka_libs()
    return 0


def _sums(_: int) -> int:
    write_sums()
    return 0


def _up(brokers: int) -> int:
    state = _running()
    if state is not None and state["brokers"] != brokers:
        _down(brokers)
        state = None
    if state is None:
        state = _start(brokers)
    sys.stdout.write(f"export SHIFTER_LOG={state['log']}\n")
    sys.stdout.write(f"export SHIFTER_STATE={state['state']}\n")
    return 0


def _start(brokers: int) -> dict[str, Any]:
    _install(brokers)
    begun = time.monotonic()
    shutil.rmtree(_DATA, ignore_errors=True)
    redis = RedisServer(_DATA / "redis", attached=False)
    kafka = KafkaCluster(brokers, _DATA / "kafka", attached=False)
    redis.start()
    kafka.start()
    pids = [redis.pid, *kafka.pids.values()]
    state = {
        "brokers": brokers,
        "log": kafka.url,
        "state": redis.url,
        "processes": [(pid, started_at(pid)) for pid in pids],
    }
    _STATE.write_text(json.dumps(state))
    passed_s = time.monotonic() - begun
    sys.stderr.write(f"stack: {brokers} broker(s) and Redis up in {passed_s:.1f} s\n")
    return state


def _down(_: int) -> int:
    if _STATE.exists():
        for pid, started in reversed(json.loads(_STATE.read_text())["processes"]):
            end_detached(pid, started)
        _STATE.unlink()
        shutil.rmtree(_DATA, ignore_errors=True)
        sys.stderr.write("stack: stopped\n")
    return 0


def _status(_: int) -> int:
    state = _running()
    sys.stderr.write("stack: down\n" if state is None else "stack: up\n")
    return 0 if state is not None else 3


def _running() -> dict[str, Any] | None:
    if not _STATE.exists():
        return None
    state: dict[str, Any] = json.loads(_STATE.read_text())
    alive = [started_at(pid) == started for pid, started in state["processes"]]
    if all(alive):
        return state
    _down(0)
    return None


_VERBS = {
    "install": _install,
    "up": _up,
    "down": _down,
    "status": _status,
    "sums": _sums,
}

if __name__ == "__main__":
    Path.mkdir(HOME, exist_ok=True)
    sys.exit(main())
