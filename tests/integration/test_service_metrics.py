"""The metrics of a service as Prometheus scrapes them, and as its calls answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections import Counter

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from shifter import Deferred, Degraded, Priority, Ran, Retry, Shed, Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Secret, Settings
from shifter.model.reason import Reason
from shifter.policy.admission.input import DEFER, DEGRADE, RUN, SHED, Decision
from shifter.telemetry import asgi_metrics, collector, serve_metrics
from shifter.telemetry.metric import SPECS

WORDS = {Ran: "ran", Deferred: "deferred", Degraded: "degraded", Shed: "shed"}
NAMES = (f"counted-{n}" for n in itertools.count())


@pytest.fixture
def app(tmp_path):
    url = Secret(f"sqlite:///{tmp_path}/shifter.db")
    name = next(NAMES)
    settings = Settings(
        namespace=name, log_url=url, state_url=url, spool="off", concurrency=4
    )
    return Shifter(name, settings=settings)


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the sample's name and its label values, in the order declared."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            names = SPECS[one.name].labels if one.name in SPECS else one.labels
            values = tuple(one.labels[name] for name in names)
            found.setdefault(one.name, {})[values] = one.value
    return found


async def scraped(app: Shifter) -> dict[str, dict[tuple[str, ...], float]]:
    transport = httpx.ASGITransport(asgi_metrics(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    return samples(answer.text)


@contextlib.asynccontextmanager
async def serving(app: Shifter, service):
    """A real uvicorn on loopback; yields a client."""
    config = uvicorn.Config(
        service, host="127.0.0.1", port=0, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    async with app:
        running = asyncio.create_task(server.serve())
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                yield client
        finally:
            server.should_exit = True
            await running


async def test_a_real_server_is_scraped_over_http(app):
    gate = asyncio.Event()

    async def page(_):
        await gate.wait()
        return PlainTextResponse("served")

    pages = Starlette(
        routes=[Route("/metrics", asgi_metrics(app)), Route("/page", page)]
    )
    async with serving(app, AdmissionMiddleware(pages, app)) as client:
        taken = [asyncio.create_task(client.get("/page")) for _ in range(3)]
        async with asyncio.timeout(20):
            while app.admission.inflight < 3:
                await asyncio.sleep(0.005)
        refused = await client.get("/page")
        # A scrape passes where a request is refused.
        scrape = await client.get("/metrics")
        gate.set()
        served = [(await task).status_code for task in taken]

    assert served == [200, 200, 200]
    assert refused.status_code == 503
    assert scrape.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(scrape.text)
    assert found["shifter_decisions_total"] == {
        ("http", "NORMAL", "ran", "accepted"): 3,
        ("http", "NORMAL", "shed", "limit_reached"): 1,
    }
    assert len(found["shifter_build_info"]) == 1


async def answer_of(call, amount: int, *, is_async: bool):
    """What a call of submit answered; ``None`` where the handler raised."""
    with contextlib.suppress(ValueError):
        return await call.submit(amount) if is_async else call.submit_sync(amount)


@pytest.mark.parametrize("is_async", [True, False])
async def test_counters_are_what_the_calls_answered(app, is_async, monkeypatch):
    """C20: each answer, and each record that was given to the log, is counted once."""

    @app.job(name="pay")
    def pay(amount: int) -> int:
        if amount % 7 == 0:
            raise ValueError(amount)
        if amount % 5 == 0:
            raise Retry("1s")
        return amount

    @pay.fallback
    def cheap(amount: int) -> int:
        return 0

    verdicts = itertools.cycle(
        [
            Decision(RUN, Reason.ACCEPTED),
            Decision(DEFER, Reason.LIMIT_REACHED),
            Decision(DEGRADE, Reason.CIRCUIT_OPEN),
            Decision(SHED, Reason.OVERLOADED, retry_after_s=1.0),
        ]
    )
    answers, records = Counter(), Counter()
    async with app:
        monkeypatch.setattr(app.admission, "decide", lambda *_, **__: next(verdicts))
        monkeypatch.setattr(app.admission, "let_go", lambda _: None)
        for amount, priority in enumerate([*Priority, Priority.LOW] * 260):
            call = pay.options(priority=priority)
            answer = await answer_of(call, amount, is_async=is_async)
            word, reason = WORDS.get(type(answer), "error"), Reason.ACCEPTED
            reason = reason if answer is None else answer.reason
            answers["pay", priority.value, word, reason.value] += 1
            records["default", priority.value, "appended"] += word == "deferred"
        for _ in range(20):
            assert isinstance(await pay.defer(1), Deferred)
            assert isinstance(pay.defer_sync(1), Deferred)
        many = await pay.defer_many([(number,) for number in range(3_000)])
        records["default", "NORMAL", "appended"] += 40 + len(many)
        found = await scraped(app)

    assert len(answers) > 12
    assert found["shifter_decisions_total"] == answers
    assert found["shifter_appends_total"] == +records
    assert "shifter_append_failures_total" not in found


async def test_it_answers_wherever_it_is_mounted(app):
    mounted = FastAPI()
    mounted.mount("/inside", asgi_metrics(app))
    routed = FastAPI()
    routed.add_route("/inside/", asgi_metrics(app))
    deep = Starlette(routes=[Mount("/a", routes=[Mount("/inside", asgi_metrics(app))])])

    for service, path in (
        (mounted, "/inside/"),
        (routed, "/inside/"),
        (deep, "/a/inside/"),
    ):
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://web"
        ) as client:
            answer = await client.get(path)
        assert answer.status_code == 200
        assert "shifter_build_info" in answer.text


async def test_it_only_reads(app):
    transport = httpx.ASGITransport(asgi_metrics(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        got, headed = await client.get("/"), await client.head("/")
        posted = await client.post("/", content=b"shifter_fake 1")

    # The page has the time that it took, so its length is not always the same.
    assert int(headed.headers["content-length"]) >= len(got.content)
    assert headed.content == b""
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


async def test_a_websocket_is_refused_and_lifespan_is_left_alone(app):
    sent = []

    async def send(message) -> None:
        sent.append(message)

    endpoint = asgi_metrics(app)
    await endpoint({"type": "websocket"}, None, send)
    await endpoint({"type": "lifespan"}, None, send)

    assert sent == [{"type": "websocket.close"}]


async def test_a_spool_that_fills_is_seen(tmp_path):
    """The broker is away: records are spooled, and a scrape tells how many."""
    settings = Settings(
        namespace="spooling",
        log_url=Secret("kafka://127.0.0.1:1"),
        spool=str(tmp_path / "spool.db"),
        accept_timeout_ms=500,
    )
    app = Shifter("spooling", settings=settings)

    @app.job
    async def pay() -> None: ...

    async with app:
        answers = [await pay.defer() for _ in range(3)]
        found = await scraped(app)
    closed = await scraped(app)

    assert [answer.reason for answer in answers] == [Reason.SPOOLED] * 3
    assert found["shifter_appends_total"] == {("default", "NORMAL", "spooled"): 3}
    assert found["shifter_spool_records"] == {(): 3}
    assert found["shifter_spool_bytes"][()] > 0
    assert found["shifter_spool_age_seconds"][()] >= 0
    assert found["shifter_append_duration_seconds_count"] == {(): 3}
    assert "shifter_spool_records" not in closed
    assert closed["shifter_appends_total"] == found["shifter_appends_total"]


async def test_a_service_serves_its_metrics_on_a_port_of_their_own(app):
    with serve_metrics(app, 0) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=url) as client:
            page, other = await client.get("/metrics?x=1"), await client.get("/")
            posted = await client.post("/metrics")
        assert server._server.server_address[0] == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            serve_metrics(app, server.port)
    server.close()

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "shifter_build_info" in samples(page.text)
    assert (other.status_code, posted.status_code) == (404, 501)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=20)


def test_a_registry_of_the_services_own_shows_them_too(app):
    registry = CollectorRegistry()
    registry.register(collector(app))
    Gauge("orders", "Orders.", registry=registry).set(3)

    found = samples(generate_latest(registry).decode())

    assert found["orders"] == {(): 3}
    assert found["shifter_build_info"]
