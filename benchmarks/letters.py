"""Dead letters on the native stack: how long a million takes to group and to replay.

``python -m benchmarks.letters [COUNT]``: starts its own servers, prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time

from shifter.config import Secret, Settings
from shifter.wiring import open_admin, open_log, topic_specs
from stack.kafka import KafkaCluster
from stack.redis import RedisServer
from tests.acceptance.replay_trial import dead_letter

NAMESPACE = "letters"


def main() -> None:
    """Measure, and print what was measured."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    cluster, redis = KafkaCluster().start(), RedisServer().start()
    try:
        cluster.warm()
        asyncio.run(_fill(_settings(cluster.url, redis.url), count))
        print(json.dumps(_measure(cluster.url, redis.url, count)))
    finally:
        redis.stop()
        cluster.stop()


async def _fill(settings: Settings, count: int) -> None:
    admin, log = open_admin(settings), open_log(settings)
    await admin.apply(topic_specs(settings, ["mail"]))
    for first in range(0, count, 5_000):
        numbers = range(first, min(count, first + 5_000))
        await log.append([dead_letter(NAMESPACE, n + 1) for n in numbers], timeout_s=60)
    log.close(timeout_s=30)
    await admin.close()


def _measure(log: str, state: str, count: int) -> dict[str, float]:
    listed_s, groups, listed_mb = _run(log, state, "list", "mail")
    assert sum(group["count"] for group in groups) == count, groups
    replay = ("replay", "mail", "--yes", "--reason", "bench", "--slow-start", "0s")
    rate = count // 20
    paced_s, paced, _ = _run(
        log, state, *replay, "--limit", str(rate), "--rate", "5000"
    )
    assert paced["counts"] == {"sent": rate}, paced
    pace = asyncio.run(_pace(log, state))
    replayed_s, run, replayed_mb = _run(log, state, *replay)
    sent = run["counts"]["sent"]
    assert sent == count - rate, run
    took_s = (run["last_ms"] - run["begun_ms"]) / 1_000
    return {
        "letters": count,
        "list_s": round(listed_s, 2),
        "list_rss_mb": listed_mb,
        "replay_s": round(replayed_s, 2),
        "replay_per_s": round(sent / took_s),
        "replay_rss_mb": replayed_mb,
        "paced_at_5000_per_s": round(pace),
        "paced_s": round(paced_s, 2),
    }


async def _pace(log: str, state: str) -> float:
    """Letters a second between the first and the last that came back."""
    admin = open_admin(_settings(log, state))
    lane = admin.scan(f"{NAMESPACE}.mail.low")
    at_ms = [found.appended_ms async for batch in lane for found in batch]
    await admin.close()
    return len(at_ms) / (max(at_ms) - min(at_ms)) * 1_000


def _settings(log: str, state: str) -> Settings:
    urls = {"log_url": Secret.of_url(log), "state_url": Secret.of_url(state)}
    return Settings(namespace=NAMESPACE, **urls)


def _run(log: str, state: str, *arguments: str) -> tuple[float, object, int]:
    environ = {
        **os.environ,
        "SHIFTER_LOG": log,
        "SHIFTER_STATE": state,
        "SHIFTER_NAMESPACE": NAMESPACE,
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "shifter.cli", "dlt", *arguments, "--json"],
        env=environ,
        stdout=subprocess.PIPE,
    )
    out = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, out
    assert isinstance(usage, resource.struct_rusage)
    return took_s, json.loads(out), usage.ru_maxrss // 1_024


if __name__ == "__main__":
    main()
