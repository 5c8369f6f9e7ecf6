"""Requests to a service whose dependency hangs opened no circuit.

When a request was cut (by the caller's deadline, or because the caller left), a block in
a thread went on and reported no failure. A block belongs to its request now: its call is
cut together with the request and counts as a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest

from shifter import Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.errors import CircuitOpenError
from shifter.grpc import AdmissionInterceptor
from shifter.policy.protection.circuit.local import USUAL_FLOOR_MS
from shifter.policy.protection.circuit.states import Open
from shifter.produce.publisher import Publisher

NAMES = (f"hanging-{n}" for n in itertools.count())
IN_A_ROW, CUT_S = 5, 0.1
SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "headers": [],
    "query_string": b"",
    "client": ("127.0.0.1", 1),
}


class Service:
    """Handlers of each kind that call a dependency which never answers."""

    def __init__(self):
        name = next(NAMES)
        settings = Settings(namespace=name, concurrency=40)
        self.app = Shifter(name, settings=settings)
        self.bank = self.app.dependency("bank")
        self.began_at: list[float] = []
        self.end = threading.Event()

    async def in_loop(self, *_):
        with contextlib.suppress(CircuitOpenError):
            async with self.bank:
                self.began_at.append(time.monotonic())
                await asyncio.Event().wait()
        return b""

    def in_thread(self, *_):
        with contextlib.suppress(CircuitOpenError), self.bank:
            self.began_at.append(time.monotonic())
            self.end.wait(30)
        return b""

    async def stream(self, *_):
        yield await self.in_loop()

    def stream_in_thread(self, *_):
        yield self.in_thread()

    @contextlib.contextmanager
    def open(self):
        clock = SystemClock()
        publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
        with self.app.served_by(publisher, MemoryClaimStore(clock)):
            try:
                yield
            finally:
                self.end.set()

    async def cut_calls(self, send):
        """Send requests until enough calls were cut.

        On a loaded machine a request may be cut before its call was made, or so soon
        afterwards that the cut does not implicate the dependency: those do not count.
        Once the circuit is open, a request ends without an error.
        """
        cut = 0
        while cut < IN_A_ROW:
            made = len(self.began_at)
            await send()
            if self.began_at and isinstance(self.state, Open):
                return
            if len(self.began_at) > made:
                cut += (
                    time.monotonic() - self.began_at[-1] >= 2 * USUAL_FLOOR_MS / 1_000
                )

    async def is_open(self):
        """Whether the circuit opens in a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while not isinstance(self.state, Open):
                    await asyncio.sleep(0.005)
        return isinstance(self.state, Open)

    @property
    def state(self):
        return self.app._guard.replica.protections["bank"].breaker.own.state


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize("place", ["loop", "thread"])
async def test_grpc_calls_that_their_deadline_cuts_open_the_circuit(kind, place):
    service = Service()
    handlers = {
        ("unary_unary", "loop"): service.in_loop,
        ("unary_unary", "thread"): service.in_thread,
        ("unary_stream", "loop"): service.stream,
        ("unary_stream", "thread"): service.stream_in_thread,
    }
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    methods = {"Pay": make(handlers[kind, place])}
    server = grpc.aio.server(interceptors=[AdmissionInterceptor(service.app)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("t.S", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    with service.open():
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            async def send():
                call = getattr(channel, kind)("/t.S/Pay")(b"", timeout=CUT_S)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await (call if kind == "unary_unary" else anext(aiter(call)))

            await service.cut_calls(send)
            is_open = await service.is_open()
            service.end.set()
            await server.stop(None)
        assert is_open


async def test_calls_of_a_synchronous_grpc_server_are_cut_by_their_deadline():
    service = Service()
    handler = grpc.unary_unary_rpc_method_handler(service.in_thread)
    with service.open(), ThreadPoolExecutor(2 * IN_A_ROW) as threads:
        server = grpc.server(threads, interceptors=[AdmissionInterceptor(service.app)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("t.S", {"Pay": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

            async def send():
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await channel.unary_unary("/t.S/Pay")(b"", timeout=CUT_S)

            await service.cut_calls(send)
            is_open = await service.is_open()
        service.end.set()
        server.stop(None).wait()
    assert is_open


@pytest.mark.parametrize("place", ["loop", "thread"])
async def test_http_requests_that_are_cancelled_open_the_circuit(place):
    service = Service()

    async def serve(scope, receive, send):
        if place == "loop":
            await service.in_loop()
        else:
            await asyncio.to_thread(service.in_thread)

    asgi = AdmissionMiddleware(serve, service.app)

    async def send():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CUT_S):
                await asgi(dict(SCOPE), None, None)

    with service.open():
        await service.cut_calls(send)
        assert await service.is_open()
