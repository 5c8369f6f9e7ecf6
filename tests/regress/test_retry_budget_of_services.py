"""The retry budget of a service that is no job's dependency: calls over gRPC and HTTP.

The budget that the interceptor asked was a dependency's, and a call has none: 300 calls
to a dead handler with ``maxAttempts: 5`` ran it 1,500 times, and three services with
four attempts each multiplied the load of the last one by 64. Right is a budget of the
service's own: calls earn a part of a retry, retries spend a whole one, and what is
called on behalf of a retry is a retry too, so that a chain does not multiply.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import httpx
import pytest

from shifter import Priority, Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.asgi import AdmissionMiddleware, calling as http_calling
from shifter.config import Settings
from shifter.grpc import AdmissionInterceptor, calling
from shifter.jobs.request_scope import ambient, within
from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.protection.budget import BudgetPolicy
from shifter.produce.publisher import Publisher
from shifter.testing import TestApp

NAMES = (f"retries-{n}" for n in itertools.count())
PATIENCE_S = 20.0
METHOD = "/t.S/Do"


def retrying(attempts: int) -> str:
    """gRPC's own retries, as a client's service config states them."""
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.005s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE", "UNKNOWN", "RESOURCE_EXHAUSTED"],
    }
    return json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})


def urgent(_) -> Priority:
    """A late event loop, on a busy machine, sheds none of these."""
    return Priority.CRITICAL


def new_app(**options) -> Shifter:
    name = next(NAMES)
    return Shifter(
        name, settings=Settings(namespace=name, concurrency=1_000), **options
    )


@asynccontextmanager
async def channel_to(port: int, attempts: int, interceptors=None):
    options = [
        ("grpc.service_config", retrying(attempts)),
        # gRPC's own client throttles by default only where it is asked to.
        ("grpc.enable_retries", 1),
    ]
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=options, interceptors=interceptors
    ) as channel:
        yield channel


class Service:
    """A service that counts how often it ran, and then calls the next or fails."""

    def __init__(self, behind: Service | None, **options) -> None:
        self.app, self.behind = new_app(**options), behind
        self.runs = self.port = 0
        self.retries: list[bool] = []
        self._ask = None

    async def do(self, request: bytes, context) -> bytes:
        self.runs += 1
        self.retries.append(ambient().is_retry)
        if self._ask is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "dead")
        try:
            return await self._ask(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.details())

    @asynccontextmanager
    async def open(self, attempts: int):
        clock = SystemClock()
        publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
        guard = AdmissionInterceptor(self.app, classify=urgent)
        server = grpc.aio.server(interceptors=[guard])
        methods = {"Do": grpc.unary_unary_rpc_method_handler(self.do)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("t.S", methods),)
        )
        self.port = server.add_insecure_port("127.0.0.1:0")
        async with AsyncExitStack() as stack:
            stack.enter_context(self.app.served_by(publisher, MemoryClaimStore(clock)))
            if self.behind is not None:
                channel = await stack.enter_async_context(
                    channel_to(self.behind.port, attempts, calling(self.app))
                )
                self._ask = channel.unary_unary(METHOD)
            await server.start()
            try:
                yield
            finally:
                await server.stop(None)


async def offer(port: int, calls: int, attempts: int) -> list[grpc.StatusCode]:
    """Call so often, 20 at a time; returns how the calls ended."""
    slots = asyncio.Semaphore(20)
    async with channel_to(port, attempts) as channel:
        ask = channel.unary_unary(METHOD)

        async def one() -> grpc.StatusCode:
            async with slots:
                call = ask(b"", timeout=PATIENCE_S)
                return await call.code()

        return await asyncio.gather(*(one() for _ in range(calls)))


async def test_three_services_that_retry_do_not_multiply_the_load_of_the_last():
    last = Service(None)
    middle = Service(last)
    first = Service(middle)
    async with last.open(4), middle.open(4), first.open(4):
        codes = await offer(first.port, 200, 4)

    assert len(codes) == 200
    assert first.runs >= 200
    assert last.runs <= 1.5 * 200
    assert any(first.retries)
    # What is called on behalf of a retry says so, all the way down.
    assert last.retries.count(False) <= 200


async def test_dead_handler_is_not_run_again_for_each_attempt_of_its_callers():
    service = Service(None)
    async with service.open(1):
        codes = await offer(service.port, 300, 5)
        refused = {
            row.reason.value: row.times
            for row in service.app.admission.report()
            if row.verdict.value == "shed"
        }

    assert set(codes) <= {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    assert 300 < service.runs <= 1.2 * 300
    assert refused["budget_exhausted"] >= 250


async def test_a_quiet_service_bears_a_few_retries_and_no_more():
    service = Service(None)
    async with service.open(1):
        await offer(service.port, 2, 5)
        few = service.runs
        await offer(service.port, 10, 5)

    assert few == 2 + 8  # a second's floor, ten seconds long, is more than they ask
    assert service.runs <= few + 10 + 3


async def test_the_budget_of_a_service_is_a_setting():
    policy = AdmissionPolicy(retries=BudgetPolicy(ratio=0, floor_per_s=0))
    service = Service(None, admission=policy)
    async with service.open(1):
        await offer(service.port, 20, 5)

    assert service.runs == 20


class Web:
    """An ASGI service that fails, and its job route."""

    def __init__(self, **options) -> None:
        self.app, self.runs, self.said = new_app(), 0, []

        @self.app.job
        async def make_report(pages: int) -> int:
            self.runs += 1
            return pages

        self.front = AdmissionMiddleware(
            self.serve,
            self.app,
            jobs={"POST /reports": make_report},
            **{"classify": urgent, **options},
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.front), base_url="http://web"
        )

    async def serve(self, scope, receive, send) -> None:
        self.runs += 1
        self.said.append(http_calling(self.app))
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def attempt(self, method: str, path: str, header: str, number: int):
        headers = {header: str(number)} if number else {}
        body = {"pages": 1} if method == "POST" else None
        return await self.client.request(method, path, headers=headers, json=body)


HEADERS = [
    ("shifter-previous-attempts", 0),
    ("grpc-previous-rpc-attempts", 0),
    ("x-envoy-attempt-count", 1),
]


@pytest.mark.parametrize(("header", "first"), HEADERS)
@pytest.mark.parametrize("route", [("GET", "/page"), ("POST", "/reports")])
async def test_http_requests_that_say_they_are_retries_spend_a_budget(
    header, first, route
):
    web, codes = Web(), []
    async with TestApp(web.app):
        for _ in range(100):
            for number in range(4):
                answer = await web.attempt(*route, header, number and number + first)
                codes.append(answer.status_code)
                last = answer if answer.status_code == 429 else None

    assert 100 < web.runs <= 120
    assert codes.count(429) == 400 - web.runs
    assert last.json()["reason"] == "budget_exhausted"
    assert "retry-after" not in last.headers


async def test_a_retry_with_a_key_is_not_charged_since_it_takes_effect_once():
    web = Web()
    async with TestApp(web.app) as test:
        for number in range(40):
            answer = await web.client.post(
                "/reports",
                json={"pages": 1},
                headers={
                    "idempotency-key": "order-7",
                    "shifter-previous-attempts": str(number),
                },
            )
            assert answer.status_code == 202
        await test.drain()

    assert web.runs == 1


async def test_http_calls_on_behalf_of_a_retry_say_that_they_are_retries():
    web = Web()
    async with TestApp(web.app):
        for number in range(2):
            await web.attempt("GET", "/page", "shifter-previous-attempts", number)
        own = http_calling(web.app, previous_attempts=2)

    assert "shifter-previous-attempts" not in web.said[0]
    assert web.said[1]["shifter-previous-attempts"] == "1"
    assert own == {"shifter-previous-attempts": "2"}


@pytest.mark.parametrize("value", ["many", "-1", "1e9", "9" * 600])
@pytest.mark.parametrize(("header", "_"), HEADERS)
async def test_a_number_of_attempts_that_is_none_is_left_out_and_counted(
    header, _, value
):
    web = Web()
    async with TestApp(web.app):
        await web.client.get("/page", headers={header: value})

    assert web.said == [{"priority": "u=0"}]
    assert web.front.ignored == {header: 1}


@pytest.mark.parametrize(
    ("priority", "most"), [(Priority.LOW, 5), (Priority.CRITICAL, 10)]
)
async def test_less_urgent_retries_leave_some_for_those_above(priority, most):
    web = Web(classify=lambda _: priority)
    async with TestApp(web.app):
        for _ in range(20):
            await web.attempt("GET", "/page", "shifter-previous-attempts", 1)

    assert web.runs == most


async def test_a_job_that_is_tried_again_calls_as_a_retry():
    app, said = new_app(), []

    @app.job(attempts=2, backoff="1ms", inline=False)
    async def ask() -> None:
        said.append(ambient().is_retry)
        if len(said) == 1:
            raise OSError

    async with TestApp(app) as test:
        await ask.defer()
        await test.drain()

    assert said == [False, True]


def test_a_nested_block_of_a_retry_is_one_too():
    with within(is_retry=True), within(deadline_ms=5):
        assert ambient().is_retry
    assert not ambient().is_retry
