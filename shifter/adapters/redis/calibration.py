"""Measures what claims, syncs and reports cost a Redis server.

Everything is written under a namespace of its own and expires. The server's own counts
of processor time and memory are read, so that nothing else may run there meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import (
    address,
    close_redis,
    open_redis,
    translated,
)
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.errors import ConfigError
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.model.fleet import FleetReport
from shifter.ports import WorkerReport

_TIMEOUT_S: Final = 5.0
_BATCH: Final = 500
_KEEP_MS: Final = 30_000
_PROCESSES: Final = 200
_LOAD: Final = 0.5
# Like the report of a process that calls two dependencies.
_EVIDENCE: Final = b"x" * 80
# So far apart that a store looks at all processes at each sync.
# Each process reports again before its report ends: 200 of them in 42 s.
_LOOK_US: Final = 210_000
_LOOKS_PART: Final = 4


class RedisCosts(NamedTuple):
    """What was measured; the fields are those of `policy.planning.costs.UnitCosts`."""

    claim_cpu_s: float
    claim_bytes: float
    claims_per_s: float
    sync_cpu_s: float
    sync_process_cpu_s: float
    presence_cpu_s: float


class RedisMeter:
    """Measures the costs of one server.

    Args:
        url: Of a server, not of a cluster.
        namespace: For what is written meanwhile.
        step: Called after each step.

    Raises:
        ConfigError: The URL is wrong, or names a cluster.
    """

    def __init__(self, url: str, namespace: str, step: Callable[[], None]) -> None:
        client = open_redis(url, timeout_s=_TIMEOUT_S)
        if not isinstance(client, Redis):
            want = "one server, such as redis://host:6379: a cluster has several counts"
            raise ConfigError("state", address(client), want)
        self._client, self._namespace, self._step = client, namespace, step

    async def measure(self, *, claims: int, syncs: int) -> RedisCosts:
        """Measure everything.

        Args:
            claims: How many jobs are claimed and ended, >= 1.
            syncs: How many syncs and reports are made, each, >= 1.

        Raises:
            StoreUnavailableError, StoreRefusedError: The server does not answer.
        """
        claim_cpu_s, claim_bytes, per_s = await self._claims(claims)
        self._step()
        alone_s, each_s = await self._syncs(syncs)
        self._step()
        presence_s = await self._presence(syncs)
        self._step()
        return RedisCosts(claim_cpu_s, claim_bytes, per_s, alone_s, each_s, presence_s)

    async def close(self) -> None:
        """Close the client."""
        await close_redis(self._client)

    async def _claims(self, count: int) -> tuple[float, float, float]:
        store = RedisClaimStore(self._client, self._namespace)
        memory, cpu_s = await self._memory(), await self._cpu_s()
        began = time.perf_counter()
        done = 0
        while done < count:
            ids = [str(uuid.uuid4()) for _ in range(_BATCH)]
            asked = [ClaimRequest(job_id, job_id, 1, 1) for job_id in ids]
            granted = await store.claim(asked, owner="calibration", lease_ms=_KEEP_MS)
            ends = [
                ClaimUpdate(job_id, answer.fence, JobState.DONE, 1, 1, _KEEP_MS)
                for job_id, answer in zip(ids, granted, strict=True)
                if isinstance(answer, Granted)
            ]
            await store.finish(ends)
            done += len(ends)
        passed_s = time.perf_counter() - began
        used_s = await self._cpu_s() - cpu_s
        held = await self._memory() - memory
        return used_s / done, max(1.0, held / done), done / passed_s

    async def _syncs(self, count: int) -> tuple[float, float]:
        """Of a sync, and what each process adds to a look at all of them."""
        store = RedisFleetStore(self._client, self._namespace)
        for process in range(_PROCESSES):
            await store.sync_at(_report(process), 0)
        seldom_s = await self._syncs_of(store, count, 0)
        looking_s = await self._syncs_of(store, count // _LOOKS_PART, _LOOK_US)
        return seldom_s, max(0.0, looking_s - seldom_s) / _PROCESSES

    async def _syncs_of(
        self, store: RedisFleetStore, count: int, step_us: int
    ) -> float:
        """Processor time of a sync, by a clock that goes on by a step each time."""
        cpu_s, version, at_us = await self._cpu_s(), 0, 0
        for turn in range(count):
            at_us += step_us
            report = _report(turn % _PROCESSES)._replace(version=version)
            _, view = await store.sync_at(report, at_us)
            version = view.version
        return (await self._cpu_s() - cpu_s) / count

    async def _presence(self, count: int) -> float:
        store = RedisPresenceStore(self._client, self._namespace)
        report = WorkerReport(
            *("calibration", "host", 1, 0, 0, 100),
            {f"{self._namespace}.calibration.normal": 50},
            {f"{self._namespace}.calibration.normal": 500.0},
        )
        cpu_s = await self._cpu_s()
        for _ in range(count):
            await store.report(report, keep_ms=_KEEP_MS)
        return (await self._cpu_s() - cpu_s) / count

    async def _cpu_s(self) -> float:
        found = await self._info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    async def _memory(self) -> float:
        return float((await self._info("memory"))["used_memory"])

    async def _info(self, section: str) -> dict[str, Any]:
        with translated(address(self._client), "info"):
            found: dict[str, Any] = await self._client.info(section)
        return found


def _report(process: int) -> FleetReport:
    name = f"calibration-host-{process:05d}"
    return FleetReport(name, _LOAD, _EVIDENCE, False, 60_000, 0)
