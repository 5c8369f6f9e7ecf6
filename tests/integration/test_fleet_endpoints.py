"""Processes that share what they find about endpoints, over Redis and over one file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

import pytest

from shifter.config import load_settings
from shifter.ops.overrides import (
    Override,
    endpoint_target,
    read_fleet,
    restore_endpoint,
    set_override,
)
from stack.redis import RedisServer
from tests.integration import endpoint_process

GENEROUS_S = 60
pytestmark = pytest.mark.timeout(400)


class Process:
    """A process of the fleet, and what it said last."""

    def __init__(self, process):
        self._process, self.out, self.lines = process, None, 0
        self._news = asyncio.Condition()

    @classmethod
    async def start(cls, environ):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            endpoint_process.__name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=kept | environ | {"SHIFTER_NAMESPACE": "shop"},
        )
        return cls(process)

    async def read(self):
        while line := await self._process.stdout.readline():
            async with self._news:
                self.out, self.lines = set(json.loads(line)), self.lines + 1
                self._news.notify_all()

    async def fails(self, *hosts):
        self._process.stdin.write(" ".join(hosts).encode() + b"\n")
        await self._process.stdin.drain()

    async def until(self, holds):
        async with asyncio.timeout(GENEROUS_S), self._news:
            await self._news.wait_for(lambda: self.lines and holds(self.out))

    async def end(self):
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), GENEROUS_S)


@contextlib.asynccontextmanager
async def fleet_of(count, environ):
    processes = [await Process.start(environ) for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(process.read()) for process in processes]
        try:
            for process in processes:
                await process.until(lambda out: out == set())
            yield processes
        finally:
            for process in processes:
                await process.end()
            for task in tasks:
                task.cancel()


@pytest.fixture
def file(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    return settings_of(tmp_path, url, url)


@pytest.fixture
def server(tmp_path):
    with RedisServer() as server:
        yield server


def on(server, tmp_path):
    log = f"sqlite:///{tmp_path}/shop.db"
    url = f"redis://127.0.0.1:{server.port}/0"
    return settings_of(tmp_path, log, url)


def settings_of(folder, log, state):
    """The settings of a fleet, as its processes read them."""
    flags = {"log": log, "state": state}
    settings = load_settings("shop", flags=flags, environ={}, cwd=folder)
    return settings, {"SHIFTER_LOG": log, "SHIFTER_STATE": state}


async def shown(settings, holds):
    """Wait until the fleet shows the endpoints so, by host."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            rows = (await read_fleet(settings)).endpoints
            by_host = {row.endpoint[len("http://") : -len(":1")]: row for row in rows}
            if rows and holds(by_host):
                return
            await asyncio.sleep(0.1)


async def share(settings, processes):
    """What two of three find is for all, what one finds is its own."""
    liar, second, third = processes
    await shown(settings, lambda rows: rows["h0"].processes == 3)
    await liar.fails("h0")
    await liar.until(lambda out: out == {"h0"})
    await liar.fails("h0", "h1")
    await second.fails("h1")
    await third.until(lambda out: out == {"h1"})
    await second.until(lambda out: out == {"h1"})
    await shown(
        settings,
        lambda rows: (
            (rows["h1"].state, rows["h1"].by) == ("ejected", "fleet")
            and (rows["h0"].state, rows["h0"].out_in) == ("open", 1)
        ),
    )


async def drain_and_restore(settings, processes):
    target = endpoint_target("render", "h2:1")
    override = Override("drained", "ann", "new kernel", 3_600_000)
    fleet = await set_override(settings, target, override)
    [row] = [row for row in fleet.endpoints if row.endpoint == "http://h2:1"]
    assert (row.state, row.by, row.why) == ("drained", "operator", "ann: new kernel")
    for process in processes:
        await process.until(lambda out: "h2" in out)
    await restore_endpoint(settings, "render", "h2:1")
    for process in processes:
        await process.until(lambda out: "h2" not in out)


async def test_processes_with_one_file_share_endpoints(file):
    settings, environ = file
    async with fleet_of(3, environ) as processes:
        await share(settings, processes)
        await drain_and_restore(settings, processes)


@pytest.mark.redis
async def test_processes_with_redis_share_endpoints_and_go_on_without_it(
    server, tmp_path
):
    settings, environ = on(server, tmp_path)
    async with fleet_of(3, environ) as processes:
        await share(settings, processes)
        await drain_and_restore(settings, processes)
        server.stop()
        liar, second, third = processes
        await second.fails("h1", "h4")
        await second.until(lambda out: "h4" in out)
        lines = third.lines
        async with asyncio.timeout(GENEROUS_S):
            while third.lines < lines + 5:
                await asyncio.sleep(0.05)
        assert "h4" not in third.out | liar.out
