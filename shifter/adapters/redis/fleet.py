"""What the processes of a fleet share in Redis: decisions and live workers.

Shared decisions are one script and seven keys of one hash slot. Every value expires.
Changes of cells are also published, so that an opened circuit reaches every process at
once; a process that misses the message reads the change at its next sync.

Live workers are a hash of reports and a sorted set of their ends. A report is about 300
bytes of JSON. Reports expire by the store's clock; the next report of any worker
removes the expired ones, and both keys expire without reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from shifter.adapters.redis.client import RedisClient, translated
from shifter.adapters.redis.keys import (
    bounded_id,
    fleet_channel,
    fleet_keys,
    presence_keys,
)
from shifter.adapters.redis.scripts import ScriptRunner, read_script
from shifter.errors import StoreError
from shifter.model.fleet import (
    MAX_WORKERS,
    FleetLoad,
    FleetReport,
    FleetView,
    RateGrant,
)
from shifter.ports import WorkerReport, decode_report, encode_report, understood

_LISTEN_AGAIN_S: Final = 1.0
# Ends may be forged so that they come first: a listing passes over what is unreadable.
_MOST_LOOKED_AT: Final = 40_000
_PAGE: Final = 500
_pack: Final = msgspec.msgpack.Encoder().encode


class RedisFleetStore:
    """`shifter.ports.FleetStore` in Redis.

    Args:
        client: Shared with other stores; the first store that closes it, closes it for
            all.
        namespace: The fleet's.
    """

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._client = client
        self._keys, self._channel = fleet_keys(namespace), fleet_channel(namespace)
        self._sync = read_script("number", "fleet_sync")
        self._runner = ScriptRunner(client, (self._sync,))
        self._random = random.Random()  # noqa: S311  # jitter, no secret

    async def sync(self, report: FleetReport) -> FleetView:
        """Exchange a report of this process for the state of the fleet."""
        return (await self.sync_at(report, None))[1]

    async def sync_at(
        self, report: FleetReport, now_us: int | None
    ) -> tuple[int, FleetView]:
        """Sync at a given time, for tests; at the server's time without one.

        Returns:
            Microseconds by the clock that was used, and the view.
        """
        command = self._sync.command(
            self._keys,
            (
                self._channel,
                "" if now_us is None else now_us,
                bounded_id(report.process),
                repr(float(report.load)),
                report.evidence,
                int(report.is_alarmed),
                report.keep_ms,
                report.version,
                # Of a thousand arguments the client would pack each by itself.
                _pack((report.budgets, report.rates)),
                *chain.from_iterable(report.proposals),
            ),
        )
        answer = await self._runner.send("fleet.sync", command)
        with understood(self._runner.store, "fleet.sync"):
            return _view(answer)

    async def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when cells change; on a cluster only a sync finds it out."""
        while isinstance(self._client, Redis):
            with contextlib.suppress(StoreError):
                await self._hear(self._client, changed)
            jitter = 0.5 + self._random.random()
            await asyncio.sleep(_LISTEN_AGAIN_S * jitter)

    async def _hear(self, client: Redis, changed: Callable[[], None]) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as channel:
            with translated(self._runner.store, "fleet.listen"):
                await channel.subscribe(self._channel)
            while True:
                with translated(self._runner.store, "fleet.listen"):
                    message = await channel.get_message(timeout=None)
                if message is not None:
                    changed()

    async def close(self) -> None:
        """Close the client, for every store that shares it."""
        await self._runner.close()


def _view(answer: list[Any]) -> tuple[int, FleetView]:
    now_us, version, cells, accepted, evidence, count, loads, *rest = answer
    granted, rates, strange, place = rest
    return int(now_us), FleetView(
        int(now_us) // 1_000,
        int(version),
        None if cells is None else _texts(cells),
        [flag == 1 for flag in accepted],
        _texts(evidence),
        FleetLoad(int(count), float(loads[0]), float(loads[1])),
        [tuple(granted[i : i + 4]) for i in range(0, len(granted), 4)],
        [RateGrant(int(rates[i]), int(rates[i + 1])) for i in range(0, len(rates), 2)],
        strange,
        None if place < 0 else place,
    )


def _texts(flat: list[bytes]) -> dict[str, bytes]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(errors="replace"): text for name, text in pairs}


class RedisPresenceStore:
    """`shifter.ports.PresenceStore` in Redis; shares its client with other stores.

    Attributes:
        unreadable: Reports found that were too large or no reports.
    """

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._keys = presence_keys(namespace)
        self._report, self._list, self._leave = (
            read_script("number", "presence", name)
            for name in ("presence_report", "presence_list", "presence_leave")
        )
        scripts = (self._report, self._list, self._leave)
        self._runner = ScriptRunner(client, scripts)
        self.unreadable = 0

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Report that a worker is alive."""
        args = (bounded_id(report.worker_id), encode_report(report), keep_ms)
        command = self._report.command(self._keys, args)
        await self._runner.send("presence.report", command)

    async def withdraw(self, worker_id: str) -> None:
        """Remove the report of a worker that left."""
        command = self._leave.command(self._keys, (bounded_id(worker_id),))
        await self._runner.send("presence.withdraw", command)

    async def workers(self) -> list[WorkerReport]:
        """All that live, by worker id; at most `MAX_WORKERS`."""
        reports: dict[str, WorkerReport] = {}
        for first in range(0, _MOST_LOOKED_AT, _PAGE):
            command = self._list.command(self._keys, (first, _PAGE))
            found = await self._runner.send("presence.workers", command)
            with understood(self._runner.store, "presence.workers"):
                for report in map(decode_report, found):
                    # The store is not trusted: what no worker wrote is left out.
                    if report is None:
                        self.unreadable += 1
                    else:
                        reports.setdefault(report.worker_id, report)
            if len(found) < _PAGE or len(reports) >= MAX_WORKERS:
                break
        by_id = sorted(reports.values(), key=lambda report: report.worker_id)
        return by_id[:MAX_WORKERS]

    async def close(self) -> None:
        """Close the client, for every store that shares it."""
        await self._runner.close()
