"""The interceptors on gRPC's synchronous servers and channels.

``grpc.server`` took the asyncio interceptor without a word, and every call hung: nothing
awaited what the interceptor returned. gRPC gives an interceptor no occasion to refuse,
so it does what it is for: on both kinds of servers, and of channels.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from shifter import Priority, Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import DeadlineExceededError
from shifter.grpc import AdmissionInterceptor, calling
from shifter.jobs.request_scope import Ambient, ambient, within
from shifter.produce.publisher import Publisher

NAMES = (f"sync-{n}" for n in itertools.count())
PATIENCE_S = 20.0
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


class World:
    """A synchronous server with a method of each kind."""

    def __init__(self) -> None:
        self.name = next(NAMES)
        self.app = Shifter(
            self.name, settings=Settings(namespace=self.name, concurrency=4)
        )
        self.seen: list[Ambient] = []
        self.gate, self.ended = threading.Event(), threading.Event()
        self.gate.set()

    def act(self, order: bytes, context) -> bytes:
        self.seen.append(ambient())
        assert self.gate.wait(PATIENCE_S)
        if order == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        if order == b"raise":
            raise ValueError("not like this")
        return b"did " + order

    def unary_unary(self, request, context):
        return self.act(request, context)

    def stream_unary(self, requests, context):
        return b",".join(self.act(request, context) for request in requests)

    def unary_stream(self, request, context):
        try:
            for order in request.split(b" "):
                yield self.act(order, context)
        finally:
            self.ended.set()

    def stream_stream(self, requests, context):
        for request in requests:
            yield self.act(request, context)

    @contextlib.contextmanager
    def open(self, *, guarded: bool = True, threads: int = 8, **options):
        """Yields a channel with our own interceptors."""
        clock = SystemClock()
        publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
        interceptors = [AdmissionInterceptor(self.app, **options)] if guarded else []
        with (
            self.app.served_by(publisher, MemoryClaimStore(clock)),
            ThreadPoolExecutor(threads) as pool,
        ):
            server = grpc.server(pool, interceptors=interceptors)
            methods = {
                kind: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, kind))
                for kind in KINDS
            }
            for service in ("t.S", "grpc.health.v1.Health"):
                server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(service, methods),)
                )
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    yield grpc.intercept_channel(channel, *calling(self.app))
                finally:
                    self.gate.set()
                    server.stop(None).wait()

    def until(self, condition) -> None:
        ends_at = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < ends_at
            time.sleep(0.005)


def call(channel, kind: str, orders: list[bytes], service: str = "t.S", **options):
    method = getattr(channel, kind)(f"/{service}/{kind}")
    ask = iter(orders) if kind.startswith("stream") else b" ".join(orders)
    found = method(ask, timeout=PATIENCE_S, **options)
    return list(found) if kind.endswith("stream") else [found]


def outcome(channel, kind: str, orders: list[bytes]):
    try:
        return call(channel, kind, orders), grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return [], error.code(), error.details()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [b"ok", b"abort", b"raise"])
def test_synchronous_server_answers_the_same_behind_the_interceptor(kind, order):
    orders = [b"ok", order] if "stream" in kind else [order]
    with World().open(guarded=False) as channel:
        expected = outcome(channel, kind, orders)

    world = World()
    with world.open() as channel:
        found = outcome(channel, kind, orders)
        world.until(lambda: not world.app.admission.inflight)

    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_synchronous_server_refuses_over_the_limit_with_a_time_and_not_health(kind):
    world = World()
    world.gate.clear()
    with world.open() as channel, ThreadPoolExecutor(4) as callers:
        busy = [
            callers.submit(outcome, channel, "unary_unary", [b"ok"]) for _ in range(3)
        ]
        world.until(lambda: world.app.admission.inflight == 3)
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, kind, [b"ok"])
        health = callers.submit(
            call, channel, kind, [b"ok"], service="grpc.health.v1.Health"
        )
        world.until(lambda: len(world.seen) == 4)
        world.gate.set()
        served = [one.result(PATIENCE_S)[1] for one in busy]
        assert health.result(PATIENCE_S) == [b"did ok"]

    error = refused.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "limit_reached"
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1_000
    assert served == [grpc.StatusCode.OK] * 3


def test_what_a_request_brings_along_goes_through_a_synchronous_channel():
    world = World()
    with world.open(trusts_priority=True) as channel:
        now_ms = SystemClock().epoch_ms()
        with within(
            deadline_ms=now_ms + 10_000,
            draw=0.25,
            priority=Priority.HIGH,
            is_retry=True,
        ):
            call(channel, "unary_unary", [b"ok"])
        call(channel, "unary_unary", [b"ok"])

    told, plain = world.seen
    # Each side counts from its own look at the clock; the call itself has 20 s.
    assert now_ms + 5_000 < told.deadline_ms <= now_ms + 15_000
    assert (told.draw, told.priority, told.is_retry) == (0.25, Priority.HIGH, True)
    assert (plain.draw, plain.priority, plain.is_retry) == (
        None,
        Priority.NORMAL,
        False,
    )


def test_call_without_a_deadline_has_none_on_a_synchronous_server():
    world = World()
    with world.open() as channel:
        channel.unary_unary("/t.S/unary_unary")(b"ok")

    assert world.seen[0].deadline_ms is None


def test_no_call_is_made_through_a_synchronous_channel_with_nothing_left():
    world = World()
    with world.open() as channel:
        late = pytest.raises(DeadlineExceededError, match="of call '/t")
        with within(deadline_ms=SystemClock().epoch_ms() - 10), late:
            call(channel, "unary_unary", [b"ok"])

    assert world.seen == []


def test_call_that_is_late_when_a_thread_takes_it_is_not_served():
    world = World()
    world.gate.clear()
    with world.open(threads=1) as channel:
        first = channel.unary_unary("/t.S/unary_unary").future(b"ok")
        world.until(lambda: len(world.seen) == 1)
        late = channel.unary_unary("/t.S/unary_unary").future(b"ok", timeout=0.1)
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        world.gate.set()
        assert first.result(PATIENCE_S) == b"did ok"
        world.until(lambda: not world.app.admission.inflight)

    assert len(world.seen) == 1


def test_stream_of_a_synchronous_server_frees_its_slot_when_its_caller_leaves():
    world = World()
    with world.open() as channel:
        orders = b" ".join([b"ok"] * 10_000)
        stream = channel.unary_stream("/t.S/unary_stream")(orders)
        assert next(stream) == b"did ok"
        stream.cancel()
        world.until(lambda: not world.app.admission.inflight)

    assert world.ended.is_set()
