"""While Redis is away, names are looked up, calls are made and endpoints are judged."""

from __future__ import annotations

import asyncio

import aiohttp
import httpx
import pytest

from shifter import Shifter
from shifter.balance import Dns
from shifter.balance.aiohttp import BalancedMiddleware
from shifter.balance.http import AsyncBalancedTransport, BalancedTransport
from shifter.config import Secret, Settings
from shifter.protection import BalancePolicy, EvidencePolicy
from stack.redis import RedisServer
from tests.integration.http_servers import backends
from tests.unit.balance.name_server import NameServer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(400)]

GENEROUS_S = 120
NAME = "_http._tcp.render.test."
PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)


class Service:
    """An app with a state store, and a client of each kind."""

    def __init__(self, names, redis, log):
        settings = Settings(
            namespace="shop",
            log_url=Secret.of_url(log),
            state_url=Secret.of_url(redis.url),
        )
        self.app = Shifter("shop", settings=settings)
        self.render = self.app.dependency(
            "render",
            endpoints=Dns(NAME, kind="srv", nameserver=names.address, refresh="1s"),
            evidence=PATIENT,
            balance=BalancePolicy(choice="round_robin"),
        )

    async def __aenter__(self):
        options = {"timeout": "30s", "retries": 2}
        await self.app.__aenter__()
        self.asynchronous = httpx.AsyncClient(
            transport=AsyncBalancedTransport(self.render, **options), timeout=60
        )
        self.plain = httpx.Client(
            transport=BalancedTransport(self.render, **options), timeout=60
        )
        self.session = aiohttp.ClientSession(
            middlewares=[BalancedMiddleware(self.render, **options)]
        )
        return self

    async def __aexit__(self, *exc):
        await self.session.close()
        self.plain.close()
        await self.asynchronous.aclose()
        await self.app.__aexit__(*exc)

    async def get(self):
        """Ask with each client; all must get an answer."""
        first = await self.asynchronous.get("http://render/")
        second = await asyncio.to_thread(self.plain.get, "http://render/")
        async with self.session.get("http://render/") as third:
            assert [first.status_code, second.status_code, third.status] == [200] * 3

    async def until(self, holds):
        async with asyncio.timeout(GENEROUS_S):
            while not holds():
                await self.get()
                await asyncio.sleep(0.02)

    @property
    def replica(self):
        return self.app._guard.replica

    def ejected(self):
        views = self.render.endpoint_views()
        return {view.endpoint.port for view in views if view.out_s}


@pytest.mark.parametrize("how", ["stop", "pause"])
async def test_names_transports_and_ejections_go_on_without_redis(how, tmp_path):
    with (
        RedisServer() as redis,
        backends(4) as servers,
        NameServer({("a.render.test.", "A"): ["127.0.0.1"]}) as names,
    ):
        ports = [server.server_port for server in servers]

        def list_ports(*listed):
            rows = [f"10 10 {port} a.render.test." for port in listed]
            names.zone = {**names.zone, (NAME, "SRV"): rows}

        list_ports(*ports[:3])
        async with Service(names, redis, f"sqlite:///{tmp_path}/log.db") as service:
            await service.until(lambda: all(server.requests for server in servers[:3]))
            await service.until(lambda: service.replica.synced_at is not None)
            servers[0].statuses = [500]
            await service.until(lambda: service.ejected() == {ports[0]})
            getattr(redis, how)()
            await service.until(lambda: service.replica.failures >= 2)

            list_ports(ports[0], *ports[2:])
            await service.until(lambda: servers[3].requests)
            assert ports[0] in service.ejected(), "what is known is kept"
            gone = len(servers[1].requests)
            await service.get()
            assert len(servers[1].requests) == gone
            list_ports(*ports[:4])
            await service.until(lambda: len(servers[1].requests) > gone)
            servers[2].statuses = [500]
            await service.until(lambda: ports[2] in service.ejected())
