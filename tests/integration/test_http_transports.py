"""The transports for httpx and aiohttp, against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aiohttp
import httpx
import pytest
import yarl

from shifter import Shifter
from shifter.balance import Dns, Endpoint
from shifter.balance.aiohttp import BalancedMiddleware
from shifter.balance.http import AsyncBalancedTransport, BalancedTransport
from shifter.config import Secret, Settings
from shifter.errors import CircuitOpenError, ConfigError
from shifter.protection import BalancePolicy, EvidencePolicy
from shifter.testing import TestApp
from tests.integration.http_servers import backends

PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)


@contextlib.contextmanager
def closed_port():
    """An address at which nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


class Client:
    """An app in a test, and the clients of its dependency."""

    def __init__(self, endpoints, *, evidence=PATIENT, **options):
        app = Shifter("shop")
        self.render = app.dependency(
            "render",
            endpoints=endpoints,
            evidence=evidence,
            balance=BalancePolicy(choice="round_robin", hedge_share=1.0),
        )
        self.test, self.stack = TestApp(app), contextlib.ExitStack()
        self.options = {"timeout": "20s", "retries": 2} | options
        base = {"base_url": "http://render", "timeout": 30}
        transport = AsyncBalancedTransport(self.render, **self.options)
        self.loop_client = httpx.AsyncClient(transport=transport, **base)
        self.middleware = BalancedMiddleware(self.render, **self.options)
        self.options.pop("hedge", None)
        self.plain = httpx.Client(
            transport=BalancedTransport(self.render, **self.options), **base
        )

    async def __aenter__(self):
        await self.test.__aenter__()
        self.session = aiohttp.ClientSession(
            "http://render",
            middlewares=[self.middleware],
            timeout=aiohttp.ClientTimeout(30),
        )
        return self

    async def __aexit__(self, *exc):
        await self.session.close()
        self.plain.close()
        await self.loop_client.aclose()
        await self.test.__aexit__(*exc)

    async def send(self, kind, method, path, **options):
        """Send a request with one of the clients."""
        if kind == "aiohttp":
            return await self._send_by_aiohttp(method, path, **options)
        if kind == "async":
            return await self.loop_client.request(method, path, **options)
        return await asyncio.to_thread(self.plain.request, method, path, **options)

    async def _send_by_aiohttp(self, method, path, content=None, headers=None):
        """The answer as httpx would have it."""
        url = yarl.URL(path, encoded=True)
        asked = self.session.request(method, url, data=content, headers=headers)
        async with asked as answer:
            body = await answer.read()
            return httpx.Response(answer.status, headers=answer.headers, content=body)


each = pytest.mark.parametrize("kind", ["async", "sync", "aiohttp"])


@each
async def test_a_request_keeps_its_path_query_and_body_and_goes_to_an_endpoint(kind):
    with backends(1) as [server]:
        async with Client([f"http://{server.address}/v1/"]) as client:
            answer = await client.send(
                kind, "POST", "/pages?of=7&x=%2F", content=b"all", headers={"a": "b"}
            )
        assert answer.text == f"200 from {server.address}"
        [(method, path, headers, body)] = server.requests
    assert (method, path, body) == ("POST", "/v1/pages?of=7&x=%2F", b"all")
    sent = httpx.Headers(headers)
    assert sent["host"] == server.address
    assert sent["a"] == "b"
    assert sent["shifter-timeout"].endswith("m")
    assert "shifter-previous-attempts" not in sent


@each
async def test_a_failed_request_is_sent_to_another_endpoint(kind):
    with backends(3) as servers:
        bad, also_bad, fine = servers
        bad.statuses, also_bad.statuses = [500], [502]
        async with Client([server.address for server in servers]) as client:
            answers = [await client.send(kind, "GET", "/") for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        repeated = [
            httpx.Headers(headers).get("shifter-previous-attempts")
            for _, _, headers, _ in fine.requests
        ]
    assert set(repeated) <= {None, "1", "2"}
    assert set(repeated) & {"1", "2"}


@each
async def test_the_answer_of_the_last_try_is_returned_when_all_fail(kind):
    with backends(3) as servers:
        for server in servers:
            server.statuses = [503]
        async with Client([server.address for server in servers]) as client:
            answer = await client.send(kind, "GET", "/")
            assert answer.status_code == 503
            assert answer.text.startswith("503 from")
        assert [len(server.requests) for server in servers] == [1, 1, 1]


@each
async def test_what_must_not_happen_twice_is_sent_again_only_if_it_never_left(kind):
    with backends(2) as servers, closed_port() as closed:
        for server in servers:
            server.statuses = [500]
        listed = [server.address for server in servers]
        async with Client([*listed, closed]) as client:
            answers = [
                await client.send(kind, "POST", "/", content=b"pay") for _ in range(6)
            ]
            assert {answer.status_code for answer in answers} == {500}
            assert sum(len(server.requests) for server in servers) == 6
            keyed = {"idempotency-key": "7"}
            await client.send(kind, "POST", "/", content=b"pay", headers=keyed)
            assert sum(len(server.requests) for server in servers) >= 8


async def test_a_body_that_is_a_stream_is_sent_once():
    async def body():
        yield b"part"

    with backends(2) as servers:
        for server in servers:
            server.statuses = [500]
        async with Client([server.address for server in servers]) as client:
            answer = await client.loop_client.put(
                "/", content=body(), headers={"content-length": "4"}
            )
        assert answer.status_code == 500
        assert sum(len(server.requests) for server in servers) == 1


@each
async def test_an_endpoint_that_asks_for_a_pause_gets_one(kind):
    with backends(2) as [busy, fine]:
        busy.statuses, busy.headers = [429], {"retry-after": "30"}
        async with Client([busy.address, fine.address]) as client:
            answers = [await client.send(kind, "GET", "/") for _ in range(6)]
            views = client.render.endpoint_views()
        assert {answer.status_code for answer in answers} == {200}
        assert len(busy.requests) == 1
    assert [view.out_s for view in views] == [30, 0]


@each
async def test_a_date_to_come_back_at_counts_from_the_date_of_the_server(kind):
    """A wrong clock of the server, or of this process, changes nothing."""
    with backends(2) as [busy, fine]:
        busy.statuses = [503]
        busy.headers = {
            "retry-after": "Thu, 01 Jan 2004 00:00:40 GMT",
            "date": "Thu, 01 Jan 2004 00:00:00 GMT",
        }
        async with Client([busy.address, fine.address]) as client:
            for _ in range(2):
                await client.send(kind, "GET", "/")
            views = client.render.endpoint_views()
    assert [view.out_s for view in views] == [40, 0]


@each
@pytest.mark.parametrize("status", [404, 501])
async def test_an_answer_that_another_endpoint_would_give_too_is_returned(kind, status):
    with backends(2) as servers:
        for server in servers:
            server.statuses = [status]
        async with Client([server.address for server in servers]) as client:
            answer = await client.send(kind, "GET", "/")
        assert answer.status_code == status
        assert sum(len(server.requests) for server in servers) == 1


@each
async def test_an_address_of_ipv6_is_called(kind):
    with backends(1, "::1") as [server]:
        async with Client([server.address]) as client:
            answer = await client.send(kind, "GET", "/")
    assert answer.text == f"200 from {server.address}"


@each
async def test_a_server_name_is_sent_where_the_url_has_an_address(kind):
    with backends(1) as [server]:
        endpoint = Endpoint(server.address, server_name="render.internal")
        async with Client([endpoint]) as client:
            await client.send(kind, "GET", "/")
        [(_, _, headers, _)] = server.requests
    assert httpx.Headers(headers)["host"] == f"render.internal:{server.server_port}"


@each
async def test_a_name_is_called_at_one_of_its_addresses(kind):
    """`localhost` has an address of IPv6 too, on many machines; nobody listens there."""
    with backends(1) as [server]:
        async with Client(Dns(f"localhost:{server.server_port}")) as client:
            answers = [await client.send(kind, "GET", "/") for _ in range(4)]
        [(_, _, headers, _), *_] = server.requests
    assert {answer.text for answer in answers} == {f"200 from {server.address}"}
    assert httpx.Headers(headers)["host"] == f"localhost:{server.server_port}"


@each
async def test_a_stalled_endpoint_raises_the_timeout_of_the_client(kind):
    with backends(1) as [server]:
        server.stalls = True
        options = {"timeout": "1s", "retries": 0}
        async with Client([server.address], **options) as client:
            with pytest.raises((httpx.ReadTimeout, aiohttp.ServerTimeoutError)):
                await client.send(kind, "GET", "/")
            [view] = client.render.endpoint_views()
    assert view.inflight == 0
    assert view.latency_s >= 5  # counts as a failure


@each
async def test_an_open_circuit_refuses_the_request(kind):
    evidence = EvidencePolicy(consecutive_failures=3)
    with backends(3) as servers:
        for server in servers:
            server.statuses = [500]
        listed = [server.address for server in servers]
        async with Client(listed, evidence=evidence) as client:
            await client.send(kind, "GET", "/")
            with pytest.raises(CircuitOpenError):
                await client.send(kind, "GET", "/")


async def test_a_slow_a_failing_and_a_stalled_server_stay_unnoticed(tmp_path):
    """Of seven servers three are bad; every request is answered all the same."""
    url = Secret(f"sqlite:///{tmp_path}/shifter.db")
    settings = Settings(namespace="shop", log_url=url, state_url=url, spool="off")
    app = Shifter("shop", settings=settings)
    with backends(7) as servers:
        slow, failing, stalled = servers[:3]
        slow.delay_s, failing.statuses, stalled.stalls = 0.5, [500, 200], True
        render = app.dependency(
            "render", endpoints=[server.address for server in servers]
        )
        transport = AsyncBalancedTransport(render, timeout="3s", retries=2)
        statuses = []
        async with (
            app,
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):

            async def ask():
                for _ in range(50):
                    answer = await client.get("/")
                    statuses.append(answer.status_code)

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(ask())
        made = [len(server.requests) for server in servers]
    assert statuses == [200] * 400
    assert sum(made) <= 400 * 1.2
    assert max(made[:3]) < min(made[3:])


@pytest.mark.parametrize("kind", ["async", "aiohttp"])
async def test_a_slow_answer_is_overtaken_by_a_second_request(kind):
    with backends(2) as [stalled, fine]:
        stalled.stalls = True
        listed = [stalled.address, fine.address]
        async with Client(listed, hedge="50ms", timeout=None) as client:
            answer = await client.send(kind, "GET", "/")
            views = client.render.endpoint_views()
        assert answer.text == f"200 from {fine.address}"
        assert len(stalled.requests) == 1
    assert [view.inflight for view in views] == [0, 0]


async def test_aiohttp_sends_no_request_more_often_than_the_retries_allow():
    """aiohttp itself repeats one whose connection was cut."""

    async def cut(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.transport.abort()

    seen = []
    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client([address], retries=1) as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.send("aiohttp", "GET", "/")
    assert len(seen) == 2


def test_a_wrong_option_is_one_error_that_names_it():
    render = Shifter("shop").dependency("render", endpoints=["a:1"])
    for transport in (BalancedTransport, AsyncBalancedTransport, BalancedMiddleware):
        with pytest.raises(ConfigError, match="timeout"):
            transport(render, timeout="soon")
        with pytest.raises(ConfigError, match="retries"):
            transport(render, retries=-1)
    with pytest.raises(ConfigError, match="hedge"):
        BalancedTransport(render, hedge="p95")
