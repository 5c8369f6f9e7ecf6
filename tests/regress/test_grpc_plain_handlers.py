"""Plain ``def`` handlers of a gRPC service, behind the admission interceptor.

The interceptor called them on the event loop with the asyncio context, so that
``context.abort(NOT_FOUND)`` was never awaited: the client got OK with an empty answer,
and the code after an ``abort(UNAUTHENTICATED)`` went on. Generators and handlers of
request streams failed, and a blocking handler stopped the whole server. Right is what
grpc.aio does without an interceptor: a thread, and a context whose calls block.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from shifter import Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.grpc import AdmissionInterceptor
from shifter.jobs.request_scope import ambient
from shifter.produce.publisher import Publisher

NAMES = (f"plain-{n}" for n in itertools.count())
PATIENCE_S = 20.0
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


class Status(grpc.Status):
    code, details = grpc.StatusCode.DATA_LOSS, "gone"
    trailing_metadata = (("why", "lost"),)


class Plain:
    """A service of ``def`` handlers; each does what its request names."""

    def __init__(self) -> None:
        self.after_abort, self.threads, self.deadlines = [], set(), []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.ended = threading.Event()
        self.gate.set()

    def act(self, order: bytes, context) -> bytes:
        self.threads.add(threading.get_ident())
        self.deadlines.append(ambient().deadline_ms)
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        context.set_trailing_metadata((("seen", order.decode()),))
        if order == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            self.after_abort.append(order)
        if order == b"raise":
            raise ValueError("not like this")
        if order == b"set_code":
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            context.set_details("not yet")
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
        try:
            for request in requests:
                yield self.act(request, context)
        finally:
            self.ended.set()


class Coroutines:
    """The same service of ``async def`` handlers."""

    def __init__(self) -> None:
        self.after_abort: list[bytes] = []

    async def act(self, order: bytes, context) -> bytes:
        context.set_trailing_metadata((("seen", order.decode()),))
        if order == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            self.after_abort.append(order)
        if order == b"raise":
            raise ValueError("not like this")
        if order == b"set_code":
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            context.set_details("not yet")
        return b"did " + order

    async def unary_unary(self, request, context):
        return await self.act(request, context)

    async def stream_unary(self, requests, context):
        return b",".join([await self.act(part, context) async for part in requests])

    async def unary_stream(self, request, context):
        for order in request.split(b" "):
            yield await self.act(order, context)

    async def stream_stream(self, requests, context):
        async for request in requests:
            yield await self.act(request, context)


@asynccontextmanager
async def serving(handlers: dict, *, guarded: bool = True, **options):
    """A real server on loopback; yields the app and a channel."""
    name = next(NAMES)
    app = Shifter(name, settings=Settings(namespace=name, concurrency=4))
    clock = SystemClock()
    publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
    interceptors = [AdmissionInterceptor(app, **options)] if guarded else []
    server = grpc.aio.server(interceptors=interceptors)
    methods = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(handler)
        for kind, handler in handlers.items()
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("t.S", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    with app.served_by(publisher, MemoryClaimStore(clock)):
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                yield app, channel
            finally:
                await server.stop(None)


def call_of(channel, kind: str, orders: list[bytes]):
    method = getattr(channel, kind)(f"/t.S/{kind}")
    ask = iter(orders) if kind.startswith("stream") else b" ".join(orders)
    return method(ask, timeout=PATIENCE_S)


async def requests_until(ended: asyncio.Event, orders: list[bytes]):
    """A request stream that sends nothing more once the server may end the call.

    A client of grpc.aio that writes into a call that the server has ended reports an
    internal error in the place of the server's status.
    """
    for order in orders:
        yield order
    if not orders or orders[-1] in (b"abort", b"raise"):
        await ended.wait()


async def outcome(channel, kind: str, orders: list[bytes]):
    """Everything the client sees of one call; without orders it sends no message."""
    ended, answers = asyncio.Event(), []
    if kind.startswith("stream"):
        method = getattr(channel, kind)(f"/t.S/{kind}")
        call = method(requests_until(ended, orders), timeout=PATIENCE_S)
    else:
        call = call_of(channel, kind, orders)
    try:
        if kind.endswith("stream"):
            answers.extend([part async for part in call])
        else:
            answers.append(await call)
    except grpc.aio.AioRpcError:
        pass  # the call says it all
    trailing = dict(await call.trailing_metadata() or ())
    ended.set()
    return answers, await call.code(), await call.details(), trailing


async def idle(app: Shifter) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while app.admission.inflight:
            await asyncio.sleep(0.005)


def of(service) -> dict:
    return {kind: getattr(service, kind) for kind in KINDS}


@pytest.mark.parametrize("service", [Plain, Coroutines])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["ok", "abort", "raise", "set_code"])
async def test_interceptor_changes_no_answer_of_any_handler(kind, service, order):
    """Against coroutines without it: alone, a generator's abort races with a write."""
    orders = [b"ok", order.encode()] if "stream" in kind else [order.encode()]
    behind = service()
    async with serving(of(Coroutines()), guarded=False) as (_, channel):
        expected = await outcome(channel, kind, orders)

    async with serving(of(behind)) as (app, channel):
        found = await outcome(channel, kind, orders)
        await idle(app)

    assert found == expected
    assert (
        found[1]
        is {
            "ok": grpc.StatusCode.OK,
            "abort": grpc.StatusCode.NOT_FOUND,
            "raise": grpc.StatusCode.UNKNOWN,
            "set_code": grpc.StatusCode.FAILED_PRECONDITION,
        }[order]
    )
    assert behind.after_abort == []


@pytest.mark.parametrize("kind", KINDS)
async def test_plain_handler_runs_in_a_thread_with_the_callers_deadline(kind):
    service = Plain()
    service.gate.clear()
    async with serving(of(service)) as (app, channel):
        calls = [asyncio.create_task(outcome(channel, kind, [b"ok"])) for _ in range(2)]
        async with asyncio.timeout(PATIENCE_S):
            while len(service.threads) < 2:
                await asyncio.sleep(0.005)
        inflight = app.admission.inflight
        service.gate.set()
        answers = [await call for call in calls]
        await idle(app)

    assert inflight == 2
    assert [answer[0] for answer in answers] == [[b"did ok"], [b"did ok"]]
    assert threading.get_ident() not in service.threads
    assert None not in service.deadlines


@pytest.mark.parametrize("kind", KINDS)
async def test_plain_handler_over_the_limit_is_refused_while_threads_are_busy(kind):
    service = Plain()
    service.gate.clear()
    async with serving(of(service)) as (app, channel):
        calls = [
            asyncio.create_task(outcome(channel, "unary_unary", [b"ok"]))
            for _ in range(3)
        ]
        async with asyncio.timeout(PATIENCE_S):
            while app.admission.inflight < 3:
                await asyncio.sleep(0.005)
        refused = await outcome(channel, kind, [b"ok"])
        service.gate.set()
        served = [await call for call in calls]

    assert refused[1:3] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "limit_reached")
    assert [answer[1] for answer in served] == [grpc.StatusCode.OK] * 3


async def test_plain_handler_keeps_its_slot_until_it_has_ended_though_cancelled():
    service = Plain()
    service.gate.clear()
    async with serving(of(service)) as (app, channel):
        call = call_of(channel, "unary_unary", [b"ok"])
        async with asyncio.timeout(PATIENCE_S):
            while not service.entered.is_set():
                await asyncio.sleep(0.005)
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await asyncio.sleep(0.05)
        held = app.admission.inflight
        service.gate.set()
        await idle(app)

    assert held == 1


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_plain_generator_is_closed_when_its_caller_leaves(kind):
    """Without an end of its own; grpc.aio itself leaves its thread waiting for ever."""
    service = Plain()

    def endless(request, context):
        try:
            while True:
                yield service.act(b"ok", context)
        finally:
            service.ended.set()

    async with serving({kind: endless}) as (app, channel):
        call = call_of(channel, kind, [b"ok"])
        for _ in range(3):
            assert await call.read() == b"did ok"
        call.cancel()
        await idle(app)

    assert service.ended.is_set()


async def test_request_stream_of_a_caller_that_left_ends_in_its_thread():
    service = Plain()

    async def requests():
        yield b"ok"
        await asyncio.Event().wait()

    async with serving(of(service)) as (app, channel):
        call = channel.stream_stream("/t.S/stream_stream")(requests())
        assert await call.read() == b"did ok"
        call.cancel()
        await idle(app)

    assert service.ended.is_set()


async def test_initial_metadata_callbacks_and_abort_with_status_work_in_a_thread():
    called = threading.Event()

    def handler(request, context):
        context.add_callback(called.set)
        assert context.is_active()
        context.send_initial_metadata((("begun", "yes"),))
        if request == b"ok":
            return b"done " + str(context.peer()).encode()[:4]
        return context.abort_with_status(Status())

    async with serving({"unary_unary": handler}) as (app, channel):
        call = call_of(channel, "unary_unary", [b"ok"])
        answer, initial = await call, dict(await call.initial_metadata())
        aborted = await outcome(channel, "unary_unary", [b"lost"])
        await idle(app)
        async with asyncio.timeout(PATIENCE_S):
            while not called.is_set():
                await asyncio.sleep(0.005)

    assert (answer, initial) == (b"done ipv4", {"begun": "yes"})
    assert aborted == ([], grpc.StatusCode.DATA_LOSS, "gone", {"why": "lost"})


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_stop_iteration_of_a_plain_handler_is_an_error_and_frees_its_slot(kind):
    def handler(request, context):
        return next(iter(()))

    async with serving({kind: handler}) as (app, channel):
        found = await outcome(channel, kind, [b"ok"])
        await idle(app)

    assert found[1] is grpc.StatusCode.UNKNOWN


async def wrapped_unary(request, context):
    if request == b"abort":
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
    return b"did " + request


async def wrapped_stream(requests, context):
    async for request in requests:
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        yield b"did " + request


class Callable:
    """An object whose call is ``async def``."""

    async def __call__(self, request, context):
        return await wrapped_unary(request, context)


def wrapper(function):
    """As a decorator that is no coroutine function itself."""

    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        ("unary_unary", wrapper(wrapped_unary)),
        ("unary_unary", Callable()),
        ("unary_unary", functools.partial(wrapped_unary)),
        ("stream_stream", wrapper(wrapped_stream)),
        ("stream_stream", functools.partial(wrapped_stream)),
    ],
)
async def test_handler_that_returns_something_to_await_is_awaited(kind, handler):
    async with serving({kind: handler}) as (app, channel):
        served = await outcome(channel, kind, [b"ok"])
        aborted = await outcome(channel, kind, [b"abort"])
        await idle(app)

    assert (served[0], served[1]) == ([b"did ok"], grpc.StatusCode.OK)
    assert (aborted[0], aborted[1]) == ([], grpc.StatusCode.NOT_FOUND)


async def test_plain_handlers_run_in_the_threads_that_were_given():
    names = []

    def handler(request, context):
        names.append(threading.current_thread().name)
        return request

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:
        async with serving({"unary_unary": handler}, threads=threads) as (_, channel):
            await outcome(channel, "unary_unary", [b"ok"])

    assert names == ["mine_0"]
