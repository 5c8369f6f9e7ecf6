"""Health checks of real servers over HTTP, TCP and gRPC."""

from __future__ import annotations

import asyncio
import socket
import threading

import grpc.aio
import pytest

from shifter import Shifter
from shifter.balance import Endpoint, GrpcCheck, HttpCheck, TcpCheck
from shifter.balance.probe import probe
from tests.integration.http_servers import Backend

GENEROUS_S = 30
HTTP = HttpCheck("/healthz?deep=1", every="60s", timeout="20s")


@pytest.fixture
def backend():
    server = Backend()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.ends.set()
    server.shutdown()
    server.server_close()


async def test_a_server_that_answers_200_is_well(backend):
    assert await probe(HTTP, Endpoint(f"http://{backend.address}/v1")) is None
    [(method, path, headers, _)] = backend.requests
    assert (method, path) == ("GET", "/v1/healthz?deep=1")
    assert headers["Host"] == backend.address


@pytest.mark.parametrize("status", [204, 299])
async def test_any_2xx_is_well(backend, status):
    backend.statuses = [status]
    assert await probe(HTTP, Endpoint(backend.address)) is None


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
async def test_any_other_status_is_ill(backend, status):
    backend.statuses = [status]
    assert await probe(HTTP, Endpoint(backend.address)) == f"status {status}"


async def test_the_host_is_the_name_that_the_server_has(backend):
    await probe(HTTP, Endpoint(backend.address, server_name="render.internal"))
    [(_, _, headers, _)] = backend.requests
    assert headers["Host"] == f"render.internal:{backend.server_address[1]}"


async def test_a_server_that_never_answers_is_ill(backend):
    backend.stalls = True
    check = HttpCheck(every="60s", timeout="50ms")
    assert await probe(check, Endpoint(backend.address)) == "no answer in 0.05 s"


@pytest.mark.parametrize("check", [HTTP, TcpCheck(every="60s", timeout="20s")])
async def test_a_server_that_is_down_is_ill(check):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert await probe(check, Endpoint(f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 2\x1b[\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 100_000,
        b"\x00" * 100_000,
    ],
)
async def test_what_is_no_answer_of_http_is_ill(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        why = await probe(HTTP, Endpoint(f"127.0.0.1:{port}"))
    assert why
    assert why.isprintable()
    assert len(why) <= 160


async def test_a_server_that_accepts_connections_is_well_for_tcp(backend):
    assert await probe(TcpCheck(), Endpoint(backend.address)) is None
    assert backend.requests == []


class Health(grpc.GenericRpcHandler):
    """A server's health service, whose answer is set by the test."""

    def __init__(self):
        self.answers, self.asked = {b"": b"\x08\x01"}, []

    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    async def check(self, request, context):
        self.asked.append(request)
        if request not in self.answers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self.answers[request]


@pytest.fixture
async def health():
    found, server = Health(), grpc.aio.server()
    server.add_generic_rpc_handlers((found,))
    found.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield found
    await server.stop(None)


async def test_a_server_that_serves_is_well_for_grpc(health):
    check = GrpcCheck(every="60s", timeout="20s")
    endpoint = Endpoint(f"127.0.0.1:{health.port}")
    assert await probe(check, endpoint) is None

    health.answers = {b"": b"\x08\x02"}
    assert await probe(check, endpoint) == "not serving (status 2)"
    health.answers = {b"": b""}
    assert await probe(check, endpoint) == "not serving (status 0)"


async def test_a_service_of_a_server_is_asked_about_by_name(health):
    name = "shop.Render" * 20
    check = GrpcCheck(name, every="60s", timeout="20s")
    endpoint = Endpoint(f"127.0.0.1:{health.port}")
    assert await probe(check, endpoint) == "NOT_FOUND: unknown service"
    [request] = health.asked
    assert request == b"\x0a\xdc\x01" + name.encode()
    health.answers[request] = b"\x08\x01"
    assert await probe(check, endpoint) is None


async def test_a_server_without_the_health_service_is_ill_for_grpc(backend):
    check = GrpcCheck(every="60s", timeout="20s")
    assert await probe(check, Endpoint(backend.address))


async def test_an_app_checks_its_endpoints_and_stops_with_it(backend, monkeypatch):
    monkeypatch.delenv("SHIFTER_STATE_URL", raising=False)
    app = Shifter("shop")
    render = app.dependency(
        "render",
        endpoints=[backend.address, "127.0.0.1:1"],
        health=HttpCheck(every="100ms", timeout="100ms", healthy=1, unhealthy=1),
    )

    def out():
        views = render.endpoint_views()
        return {view.endpoint.port for view in views if "health check" in view.why}

    async with app, asyncio.timeout(GENEROUS_S):
        # Which endpoint is checked first is a matter of chance.
        while out() != {1} or not backend.requests:
            await asyncio.sleep(0.05)
        async with render.call() as call:
            assert call.endpoint.host == "127.0.0.1"
            assert call.endpoint.port == backend.server_address[1]
    made = len(backend.requests)
    assert made > 0
    names = {thread.name for thread in threading.enumerate()}
    assert "shifter-watch" not in names
