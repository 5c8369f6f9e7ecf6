"""Balanced channels between real gRPC servers and real clients, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent import futures

import grpc
import grpc.aio
import pytest

from shifter import Shifter
from shifter.balance import Endpoint, remaining_s
from shifter.errors import CircuitOpenError, ConfigError
from shifter.grpc import AsyncBalancedChannel, BalancedChannel
from shifter.protection import BalancePolicy, EvidencePolicy
from shifter.testing import TestApp

PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)
GET, PAY = "/render.Render/Get", "/render.Render/Pay"
CODE = grpc.StatusCode


class Backend(grpc.GenericRpcHandler):
    """A server whose answers may be changed while it runs."""

    def __init__(self):
        self.code, self.details, self.trailing = None, "", ()
        self.calls, self.stalls, self.ends = [], False, threading.Event()
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)]
        )
        self.server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details):
        def answer(request, context):
            self.calls.append((details, context.time_remaining()))
            if self.stalls:
                self.ends.wait(60)
            if self.code is not None:
                context.set_trailing_metadata(self.trailing)
                context.abort(self.code, self.details)
            return self.address.encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def backends(count):
    servers = [Backend() for _ in range(count)]
    for server in servers:
        server.server.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.ends.set()
            server.server.stop(None).wait()


@contextlib.contextmanager
def closed_port():
    """An address at which nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


class Client:
    """An app in a test, and both channels of its dependency."""

    def __init__(self, endpoints, *, evidence=PATIENT, idempotent=(GET,), **options):
        app = Shifter("shop")
        self.render = app.dependency(
            "render",
            endpoints=endpoints,
            evidence=evidence,
            balance=BalancePolicy(choice="round_robin", hedge_share=1.0),
        )
        self.test = TestApp(app)
        self.options = {"timeout": "20s", "retries": 2} | options
        self.options["idempotent"] = idempotent

    async def __aenter__(self):
        await self.test.__aenter__()
        self.loop_channel = AsyncBalancedChannel(self.render, **self.options)
        self.options.pop("hedge", None)
        self.plain = BalancedChannel(self.render, **self.options)
        return self

    async def __aexit__(self, *exc):
        self.plain.close()
        await self.loop_channel.close()
        await self.test.__aexit__(*exc)

    async def call(self, kind, method=GET, **options):
        """Make a call on one of the two channels; returns the address that answers."""
        if kind == "async":
            answer = await self.loop_channel.unary_unary(method)(b"", **options)
        else:
            called = self.plain.unary_unary(method)
            answer = await asyncio.to_thread(called, b"", **options)
        return answer.decode()

    async def fails(self, kind, method=GET, **options):
        """The code of a call that fails."""
        with pytest.raises(grpc.RpcError) as raised:
            await self.call(kind, method, **options)
        return raised.value.code()


both = pytest.mark.parametrize("kind", ["async", "sync"])


@both
async def test_calls_go_to_all_endpoints_and_carry_what_time_is_left(kind):
    with backends(3) as servers:
        async with Client([server.address for server in servers]) as client:
            seen = {await client.call(kind) for _ in range(6)}
            await client.call(kind, timeout=5, metadata=(("tenant", "a"),))
        details, left_s = max(
            (call for server in servers for call in server.calls),
            key=lambda call: len(call[0].invocation_metadata),
        )
    assert seen == {server.address for server in servers}
    assert ("tenant", "a") in details.invocation_metadata
    assert 0 < left_s < 10  # of the 20 s of a try
    assert remaining_s() is None


@both
@pytest.mark.parametrize("code", [CODE.UNAVAILABLE, CODE.INTERNAL, CODE.UNKNOWN])
async def test_a_failed_call_that_is_idempotent_is_sent_to_another_endpoint(kind, code):
    with backends(3) as servers:
        bad, also_bad, fine = servers
        bad.code = also_bad.code = code
        async with Client([server.address for server in servers]) as client:
            assert {await client.call(kind) for _ in range(4)} == {fine.address}
        told = {
            dict(details.invocation_metadata).get("grpc-previous-rpc-attempts")
            for details, _ in fine.calls
        }
    assert told <= {None, "1", "2"}
    assert told & {"1", "2"}


@both
async def test_a_call_that_must_not_happen_twice_is_sent_again_only_if_it_never_left(
    kind,
):
    with backends(2) as servers, closed_port() as closed:
        for server in servers:
            server.code = CODE.UNAVAILABLE
        listed = [server.address for server in servers]
        async with Client([*listed, closed]) as client:
            for _ in range(3):
                assert await client.fails(kind, PAY) is CODE.UNAVAILABLE
        assert sum(len(server.calls) for server in servers) == 3


@both
async def test_an_answer_that_another_endpoint_would_give_too_is_no_failure(kind):
    with backends(2) as servers:
        for server in servers:
            server.code = CODE.NOT_FOUND
        async with Client([server.address for server in servers]) as client:
            assert await client.fails(kind) is CODE.NOT_FOUND
            views = client.render.endpoint_views()
        assert sum(len(server.calls) for server in servers) == 1
    assert max(view.latency_s for view in views) < 5  # a failure counts as 5 s


@both
@pytest.mark.parametrize("method", [GET, PAY])
async def test_a_push_back_pauses_its_endpoint_and_the_call_goes_to_another(
    kind, method
):
    with backends(2) as [busy, fine]:
        busy.code = CODE.UNAVAILABLE
        busy.trailing = (("grpc-retry-pushback-ms", "30000"),)
        async with Client([busy.address, fine.address]) as client:
            answers = [await client.call(kind, method) for _ in range(5)]
            views = client.render.endpoint_views()
        assert answers == [fine.address] * 5
        assert len(busy.calls) == 1
    assert [view.out_s for view in views] == [30, 0]


@both
async def test_an_exhausted_server_gets_a_pause_of_a_second(kind):
    with backends(2) as [busy, fine]:
        busy.code = CODE.RESOURCE_EXHAUSTED
        async with Client([busy.address, fine.address]) as client:
            assert await client.call(kind) == fine.address
            assert await client.call(kind) == fine.address
            views = client.render.endpoint_views()
        assert len(busy.calls) == 1
    assert [view.out_s for view in views] == [1, 0]


@both
async def test_a_negative_push_back_forbids_another_try(kind):
    with backends(2) as servers:
        for server in servers:
            server.code = CODE.UNAVAILABLE
            server.trailing = (("grpc-retry-pushback-ms", "-1"),)
        async with Client([server.address for server in servers]) as client:
            assert await client.fails(kind) is CODE.UNAVAILABLE
        assert sum(len(server.calls) for server in servers) == 1


@both
async def test_a_message_that_is_too_large_is_no_fault_of_the_endpoint(kind):
    with backends(2) as servers:
        for server in servers:
            server.code = CODE.RESOURCE_EXHAUSTED
            server.details = "CLIENT: Received message larger than max (9 vs. 4)"
        async with Client([server.address for server in servers]) as client:
            assert await client.fails(kind) is CODE.RESOURCE_EXHAUSTED
            assert [view.out_s for view in client.render.endpoint_views()] == [0, 0]
        assert sum(len(server.calls) for server in servers) == 1


@both
async def test_a_stalled_endpoint_ends_with_the_code_of_a_deadline(kind):
    with backends(1) as [server]:
        server.stalls = True
        async with Client([server.address], timeout="200ms", retries=0) as client:
            assert await client.fails(kind) is CODE.DEADLINE_EXCEEDED
            [view] = client.render.endpoint_views()
    assert view.inflight == 0
    assert view.latency_s >= 5  # counts as a failure


async def test_a_slow_answer_is_overtaken_by_a_second_call():
    with backends(2) as [stalled, fine]:
        stalled.stalls = True
        listed = [stalled.address, fine.address]
        async with Client(listed, hedge="50ms", timeout=None) as client:
            assert await client.call("async") == fine.address
            views = client.render.endpoint_views()
        assert len(stalled.calls) == 1
    assert [view.inflight for view in views] == [0, 0]


@both
async def test_an_open_circuit_refuses_the_call(kind):
    evidence = EvidencePolicy(consecutive_failures=3)
    with backends(3) as servers:
        for server in servers:
            server.code = CODE.UNAVAILABLE
        listed = [server.address for server in servers]
        async with Client(listed, evidence=evidence) as client:
            assert await client.fails(kind) is CODE.UNAVAILABLE
            with pytest.raises(CircuitOpenError):
                await client.call(kind)


async def test_channels_of_endpoints_that_are_gone_are_closed():
    with backends(3) as servers:
        first, second, third = (server.address for server in servers)
        async with Client([first, second]) as client:
            for kind in ("async", "sync"):
                for _ in range(2):
                    await client.call(kind)
            old = client.plain.to(Endpoint(first))
            client.render.set_endpoints([second, third])
            for kind in ["async"] * 3 + ["sync"] * 3:
                await client.call(kind)
            assert set(client.loop_channel._pool._channels) == {
                f"http://{second}",
                f"http://{third}",
            }
            with pytest.raises(ValueError, match="closed"):
                old.unary_unary(GET)(b"")


async def test_calls_with_streams_go_to_a_chosen_endpoint():
    with backends(1) as [server]:
        async with Client([server.address]) as client:
            for channel in (client.plain, client.loop_channel):
                for name in ("unary_stream", "stream_unary", "stream_stream"):
                    with pytest.raises(NotImplementedError, match=r"channel\.to"):
                        getattr(channel, name)(GET)(b"")
            async with client.render.call() as call:
                channel = client.loop_channel.to(call.endpoint)
                assert await channel.unary_unary(GET)(b"") == server.address.encode()


def test_a_wrong_option_of_a_channel_is_one_error_that_names_it():
    render = Shifter("shop").dependency("render", endpoints=["a:1"])
    for channel in (BalancedChannel, AsyncBalancedChannel):
        for name, value in {
            "timeout": "soon",
            "retries": -1,
            "idempotent": GET,
        }.items():
            with pytest.raises(ConfigError, match=name):
                channel(render, **{name: value})
    with pytest.raises(ConfigError, match="hedge"):
        BalancedChannel(render, hedge="p95")
