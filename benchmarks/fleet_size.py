"""What a fleet costs Redis, by its size: real connections, and beyond in virtual time.

``python -m benchmarks.fleet_size [PROCESSES…]``: one JSON object a line. Each member has
a connection of its own, syncs and reports at the pace of its fleet, and knows 2
dependencies. What it costs beyond is computed from what was measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from typing import Any, Final

from redis.asyncio import Redis

from shifter.adapters.redis.calibration import RedisMeter
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.adapters.system import SystemClock
from shifter.fleet.replica import FleetReplica
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.simulation import play_syncs
from shifter.policy.planning.site import sync_cores
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.fleet_pace import (
    presence_every_s,
    presence_keep_ms,
    sync_every_s,
)
from shifter.ports import WorkerReport
from stack.redis import RedisServer

SIZES: Final = (10, 100, 500)
BEYOND: Final = (10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
_SETTLE_S: Final = 5.0
_LASTS_S: Final = 15.0
_DEPENDENCIES: Final = (Dependency("bank"), Dependency("mailer"))


async def _member(
    url: str, namespace: str, number: int, processes: int, took_ms: list[float]
) -> None:
    clock, name = SystemClock(), f"host-{number:05d}"
    client = open_redis(url, timeout_s=5.0)
    fleet, presence = (
        RedisFleetStore(client, namespace),
        RedisPresenceStore(client, namespace),
    )
    replica = FleetReplica(_DEPENDENCIES, clock, process=name, seed=number)
    report = WorkerReport(name, "host", number, 0, 0, 100, {}, {})
    chance, report_at = random.Random(number), 0.0
    await asyncio.sleep(chance.random() * sync_every_s(processes))
    while True:
        sent = replica.report()
        began = time.perf_counter()
        view = await fleet.sync(sent.report)
        took_ms.append((time.perf_counter() - began) * 1_000)
        replica.learn(sent, view)
        if clock.monotonic() >= report_at:
            report_at = clock.monotonic() + presence_every_s(replica.processes)
            kept_ms = presence_keep_ms(replica.processes)
            await presence.report(report, keep_ms=kept_ms)
        await asyncio.sleep(sync_every_s(replica.processes))


async def _measured(url: str, processes: int) -> dict[str, Any]:
    namespace, took_ms = f"size{uuid.uuid4().hex[:6]}", list[float]()
    async with asyncio.TaskGroup() as group:
        members = [
            group.create_task(_member(url, namespace, number, processes, took_ms))
            for number in range(processes)
        ]
        await asyncio.sleep(_SETTLE_S)
        took_ms.clear()
        async with Redis.from_url(url) as client:
            before = await _cpu_s(client)
            await asyncio.sleep(_LASTS_S)
            used_s = (await _cpu_s(client) - before) / _LASTS_S
        for member in members:
            member.cancel()
    took_ms.sort()
    return {
        "processes": processes,
        "core": round(used_s, 4),
        "core_us_a_process": round(used_s / processes * 1e6, 1),
        "core_us_a_sync": round(used_s * _LASTS_S / len(took_ms) * 1e6, 1),
        "syncs_per_s": round(len(took_ms) / _LASTS_S),
        "sync_p50_ms": round(took_ms[len(took_ms) // 2], 2),
        "sync_p99_ms": round(took_ms[len(took_ms) * 99 // 100], 2),
    }


async def _cpu_s(client: Redis) -> float:
    info = await client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _computed(costs: UnitCosts, processes: int) -> dict[str, Any]:
    played = play_syncs(processes, costs, random.Random(1).random)
    core = sync_cores(costs, processes)
    return {
        "computed": processes,
        "core": round(core, 4),
        "core_us_a_process": round(core / processes * 1e6, 1),
        "syncs_per_s": round(played.syncs_per_s),
        "sync_p99_ms": round(played.p99_s * 1_000, 2),
    }


async def _costs(url: str) -> UnitCosts:
    meter = RedisMeter(url, "calibration", lambda: None)
    try:
        found = await meter.measure(claims=20_000, syncs=4_000)
    finally:
        await meter.close()
    return UnitCosts(job_cpu_s=1e-6, record_bytes=1.0, **found._asdict())


def main() -> None:
    """Measure, and print what was measured."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    with RedisServer() as redis:
        for processes in sizes:
            print(json.dumps(asyncio.run(_measured(redis.url, processes))), flush=True)
        costs = asyncio.run(_costs(redis.url))
    print(json.dumps(costs._asdict()))
    for processes in BEYOND:
        print(json.dumps(_computed(costs, processes)))


if __name__ == "__main__":
    main()
