"""The interceptors between a real gRPC server and a real client, on loopback."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from shifter import DeadLetter, Priority, Retry, Shifter, Throttled
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import DeadlineExceededError
from shifter.grpc import AdmissionInterceptor, calling, heed
from shifter.grpc.metadata import read_metadata
from shifter.jobs.request_scope import ambient, within
from shifter.policy.admission.input import DependencyNeeds
from shifter.produce.admission import Views
from shifter.produce.publisher import Publisher

NAMES = (f"rpc-{n}" for n in itertools.count())
PATIENCE_S = 30.0
RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
)


class World:
    """A server with a method of each kind, and a channel to it."""

    def __init__(self, **options) -> None:
        name = next(NAMES)
        self.app = Shifter(name, settings=Settings(namespace=name, concurrency=4))
        self.interceptor = AdmissionInterceptor(self.app, **options)
        self.gate, self.seen, self.cancelled = asyncio.Event(), [], asyncio.Event()
        self.gate.set()

    async def echo(self, request: bytes, context) -> bytes:
        self.seen.append(ambient())
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def count(self, request: bytes, context):
        for number in range(3):
            yield bytes([number])

    async def add(self, requests, context) -> bytes:
        return b"".join([part async for part in requests])

    @asynccontextmanager
    async def open(self, config: str = "{}"):
        clock = SystemClock()
        publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
        server = grpc.aio.server(interceptors=[self.interceptor])
        methods = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Add": grpc.stream_unary_rpc_method_handler(self.add),
        }
        for service in ("shop", "grpc.health.v1.Health"):
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, methods),)
            )
        port = server.add_insecure_port("127.0.0.1:0")
        with self.app.served_by(publisher, MemoryClaimStore(clock)):
            await server.start()
            target = f"127.0.0.1:{port}"
            interceptors = calling(self.app)
            async with grpc.aio.insecure_channel(
                target,
                options=[("grpc.service_config", config)],
                interceptors=interceptors,
            ) as channel:
                try:
                    yield channel
                finally:
                    await server.stop(None)

    async def full(self, group, channel) -> None:
        """Let calls take every slot that NORMAL has."""
        self.gate.clear()
        for _ in range(3):
            group.create_task(call(channel))
        async with asyncio.timeout(PATIENCE_S):
            while self.app.admission.inflight < 3:
                await asyncio.sleep(0.005)


async def call(channel, method: str = "/shop/Echo", **options) -> bytes:
    return await channel.unary_unary(method)(b"hello", timeout=PATIENCE_S, **options)


async def refused(channel, **options) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, **options)
    return caught.value


def pushback_of(error: grpc.aio.AioRpcError) -> int:
    return int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])


async def test_calls_of_each_kind_are_served_and_free_their_slot():
    world = World()
    async with world.open() as channel:
        one = await call(channel)
        counted = [part async for part in channel.unary_stream("/shop/Count")(b"")]
        added = await channel.stream_unary("/shop/Add")(iter([b"a", b"b"]))
        async with asyncio.timeout(PATIENCE_S):
            while world.app.admission.inflight:
                await asyncio.sleep(0.005)

    assert (one, counted, added) == (b"hello", [b"\0", b"\1", b"\2"], b"ab")


async def test_over_the_limit_a_call_is_refused_with_a_time_and_health_is_not():
    world = World()
    async with world.open() as channel, asyncio.TaskGroup() as group:
        await world.full(group, channel)
        error = await refused(channel)
        health = group.create_task(call(channel, "/grpc.health.v1.Health/Echo"))
        async with asyncio.timeout(PATIENCE_S):
            while len(world.seen) < 4:
                await asyncio.sleep(0.005)
        world.gate.set()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "limit_reached"
    assert 1_000 <= pushback_of(error) < 1_500
    assert health.result() == b"hello"


async def test_a_caller_that_gives_up_cancels_the_handler_and_frees_its_slot():
    world = World()
    async with world.open() as channel:
        world.gate.clear()
        pending = channel.unary_unary("/shop/Echo")(b"", timeout=PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while not world.seen:
                await asyncio.sleep(0.005)
            pending.cancel()
            await world.cancelled.wait()
            while world.app.admission.inflight:
                await asyncio.sleep(0.005)

        assert await pending.code() is grpc.StatusCode.CANCELLED


async def test_what_is_left_of_a_request_and_how_urgent_it_is_goes_along():
    world = World(trusts_priority=True)
    async with world.open() as channel:
        now_ms = SystemClock().epoch_ms()
        with within(deadline_ms=now_ms + 10_000, draw=0.25, priority=Priority.HIGH):
            await call(channel)
        await call(channel)

    told, plain = world.seen
    assert now_ms + 5_000 < told.deadline_ms <= now_ms + 15_000
    assert (told.draw, told.priority) == (0.25, Priority.HIGH)
    assert now_ms + 25_000 < plain.deadline_ms
    assert (plain.draw, plain.priority) == (None, Priority.NORMAL)


async def test_with_nothing_left_no_call_is_made():
    world = World()
    async with world.open() as channel:
        with (
            within(deadline_ms=SystemClock().epoch_ms() - 1_500),
            pytest.raises(DeadlineExceededError) as caught,
        ):
            await call(channel)

    assert world.seen == []
    assert re.fullmatch(
        r"deadline of call '/shop/Echo' passed (1\.[5-9]|[2-9]\.\d|\d\d\.\d)\d\d s ago",
        str(caught.value),
    )


async def test_a_call_that_runs_late_ends_as_deadline_exceeded_and_frees_its_slot():
    world = World()
    async with world.open() as channel:
        world.gate.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/shop/Echo")(b"", timeout=0.2)
        async with asyncio.timeout(PATIENCE_S):
            while world.app.admission.inflight:
                await asyncio.sleep(0.005)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_retry_that_comes_at_the_requested_time_is_served():
    world = World()
    async with world.open(RETRYING) as channel, asyncio.TaskGroup() as group:
        await world.full(group, channel)
        began_at = SystemClock().monotonic()
        again = group.create_task(call(channel))
        async with asyncio.timeout(PATIENCE_S):
            while len(world.app.admission.report()) < 2:
                await asyncio.sleep(0.005)
        world.gate.set()
        await again
        waited_s = SystemClock().monotonic() - began_at

    assert waited_s >= 1.0


async def test_a_retry_without_budget_gets_a_refusal_of_further_retries():
    """By gRPC's own retries: the second attempt says which one it is."""
    world = World()
    async with world.open(RETRYING) as channel, asyncio.TaskGroup() as group:
        await world.full(group, channel)
        world.app.admission.views = Views(
            None, lambda *_: DependencyNeeds(has_budget=False)
        )
        error = await refused(channel)
        world.gate.set()

    assert error.details() == "budget_exhausted"
    assert pushback_of(error) == -1


async def test_callers_that_are_not_ours_are_not_as_urgent_as_they_say():
    world = World(highest=Priority.NORMAL)
    async with world.open() as channel:
        await call(channel, metadata=(("shifter-priority", "CRITICAL"),))

    assert world.seen[0].priority is Priority.NORMAL
    assert world.interceptor.ignored == {"shifter-priority": 1}


async def test_a_function_may_classify_by_method():
    world = World(classify=lambda method: Priority.LOW if "Echo" in method else None)
    async with world.open() as channel:
        await call(channel)

    assert world.seen[0].priority is Priority.LOW


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shifter-priority", "URGENT"),
        ("shifter-height", "-1"),
        ("shifter-height", "1e9"),
        ("grpc-previous-rpc-attempts", "9" * 40),
    ],
)
def test_absurd_metadata_is_left_out_and_counted(name, value):
    ignored: Counter[str] = Counter()

    told = read_metadata([(name, value)], ignored)

    assert ignored == {name: 1}
    assert not told.is_retry
    assert told.draw in (None, 0.0)


def test_a_height_beyond_the_highest_is_the_highest():
    assert read_metadata([("shifter-height", "500")], Counter()).draw == 0.99


@pytest.mark.parametrize(
    ("code", "said", "raised"),
    [
        ("RESOURCE_EXHAUSTED", "250", Throttled(0.25)),
        ("UNAVAILABLE", "250", Retry(0.25)),
        ("UNAVAILABLE", "-1", DeadLetter("the server wants no retry: UNAVAILABLE")),
        ("UNAVAILABLE", "soon", DeadLetter("the server wants no retry: UNAVAILABLE")),
        ("UNAVAILABLE", None, None),
    ],
)
async def test_the_push_back_of_a_server_is_heeded(code, said, raised):
    async def refuse(request, context):
        told = () if said is None else (("grpc-retry-pushback-ms", said),)
        context.set_trailing_metadata(told)
        await context.abort(grpc.StatusCode[code], "no")

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("shop.Bank", {"Pay": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/shop.Bank/Pay")(b"")
    await server.stop(None)

    found = heed(failed.value)

    if raised is None:
        assert found is failed.value
    else:
        assert (type(found), found.args) == (type(raised), raised.args)
