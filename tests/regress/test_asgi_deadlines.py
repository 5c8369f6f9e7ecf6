"""HTTP requests that run past the deadline that their callers stated.

A caller that waits for 300 ms got its 200 after 2 s: the deadline was looked at before
the request, and never again. Right is to cancel the request and to answer 504 at its
deadline; where the response has begun, to end the connection without its end; and to
keep the slot until what was cancelled has really ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from shifter import Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.testing import TestApp

NAMES = (f"late-{n}" for n in itertools.count())
PATIENCE_S = 20.0
SOON = {"shifter-timeout": "500m"}
PLENTY = {"shifter-timeout": "20S"}


class World:
    def __init__(self) -> None:
        name = next(NAMES)
        self.app = Shifter(name, settings=Settings(namespace=name, concurrency=4))
        self.gate, self.thread_gate = asyncio.Event(), threading.Event()
        self.cancelled, self.done = asyncio.Event(), asyncio.Event()
        self.errors: list[str] = []

        @self.app.job
        async def make_report(pages: int) -> int:
            return pages

        names = ("slow", "blocking", "streaming", "background", "stubborn", "failing")
        self.front = AdmissionMiddleware(
            Starlette(routes=[Route(f"/{n}", getattr(self, n)) for n in names]),
            self.app,
            jobs={"POST /reports": make_report},
        )

    async def slow(self, request) -> PlainTextResponse:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return PlainTextResponse("served")

    def blocking(self, request) -> PlainTextResponse:
        assert self.thread_gate.wait(PATIENCE_S)
        return PlainTextResponse("served")

    async def streaming(self, request) -> StreamingResponse:
        async def parts():
            try:
                yield b"begun"
                await self.gate.wait()
                yield b"ended"
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

        return StreamingResponse(parts())

    async def background(self, request) -> PlainTextResponse:
        async def after() -> None:
            await asyncio.sleep(1.0)
            self.done.set()

        return PlainTextResponse("served", background=BackgroundTask(after))

    async def stubborn(self, request) -> PlainTextResponse:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.done.wait()
        return PlainTextResponse("served all the same")

    async def failing(self, request) -> PlainTextResponse:
        raise RuntimeError("not like this")

    @contextlib.asynccontextmanager
    async def open(self):
        """A real uvicorn on loopback."""
        config = uvicorn.Config(
            self.front, host="127.0.0.1", port=0, log_level="critical", lifespan="off"
        )
        server = uvicorn.Server(config)
        async with TestApp(self.app):
            running = asyncio.create_task(server.serve())
            async with asyncio.timeout(PATIENCE_S):
                while not server.started:
                    await asyncio.sleep(0.005)
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            try:
                async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as found:
                    yield found
            finally:
                self.thread_gate.set()
                server.should_exit = True
                await running

    async def until_idle(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.app.admission.inflight:
                await asyncio.sleep(0.005)


async def test_request_that_runs_past_its_deadline_is_cancelled_and_answered_504():
    world = World()
    async with world.open() as client:
        began_at = time.monotonic()
        answer = await client.get("/slow", headers=SOON)
        took_s = time.monotonic() - began_at
        async with asyncio.timeout(PATIENCE_S):
            await world.cancelled.wait()
        await world.until_idle()
        again = asyncio.create_task(client.get("/slow", headers=PLENTY))
        world.gate.set()
        served = await again

    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "expired"
    assert 0.5 <= took_s < PATIENCE_S / 2
    assert (served.status_code, served.text) == (200, "served")
    assert (world.front.late, world.front.cut) == (1, 0)


async def test_plain_endpoint_is_answered_504_at_once_and_keeps_its_slot():
    """Starlette runs it in a thread, which nothing can cancel."""
    world = World()
    async with world.open() as client:
        began_at = time.monotonic()
        answer = await client.get("/blocking", headers=SOON)
        took_s = time.monotonic() - began_at
        others = [await client.get("/blocking", headers=SOON) for _ in range(4)]
        held = world.app.admission.inflight
        world.thread_gate.set()
        await world.until_idle()

    assert answer.status_code == 504
    assert took_s < PATIENCE_S / 2
    assert [other.status_code for other in others] == [504, 504, 503, 503]
    assert held == 3


async def test_response_that_has_begun_is_cut_without_an_end_at_its_deadline():
    world, parts = World(), []
    async with world.open() as client:
        began_at = time.monotonic()
        cut = pytest.raises(httpx.RemoteProtocolError, match="incomplete")
        async with client.stream("GET", "/streaming", headers=SOON) as answer:
            with cut:
                async for part in answer.aiter_bytes():
                    parts.append(part)  # noqa: PERF401  # until it is cut
        took_s = time.monotonic() - began_at
        async with asyncio.timeout(PATIENCE_S):
            await world.cancelled.wait()
        await world.until_idle()

    assert (answer.status_code, parts) == (200, [b"begun"])
    assert took_s < PATIENCE_S / 2
    assert (world.front.late, world.front.cut) == (1, 1)


async def test_what_follows_a_response_in_time_is_not_cancelled():
    world = World()
    async with world.open() as client:
        answer = await client.get("/background", headers=SOON)
        async with asyncio.timeout(PATIENCE_S):
            await world.done.wait()
        await world.until_idle()

    assert answer.text == "served"
    assert world.front.late == 0


async def test_service_that_swallows_its_cancellation_cannot_answer_any_more():
    world = World()
    async with world.open() as client:
        answer = await client.get("/stubborn", headers=SOON)
        held = world.app.admission.inflight
        world.done.set()
        await world.until_idle()
        after = await client.get("/background")

    assert answer.status_code == 504
    assert held == 1
    assert after.text == "served"


async def test_service_that_fails_before_its_deadline_fails_as_it_would():
    world = World()
    async with world.open() as client:
        answer = await client.get("/failing", headers=PLENTY)
        await world.until_idle()

    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_request_without_a_deadline_runs_on():
    world = World()
    async with world.open() as client:
        slow = asyncio.create_task(client.get("/slow"))
        await asyncio.sleep(0.4)
        world.gate.set()
        answer = await slow

    assert answer.text == "served"


async def test_body_of_a_job_that_is_not_sent_in_time_is_a_504():
    world = World()
    head = (
        "POST /reports HTTP/1.1\r\nhost: web\r\ncontent-length: 20\r\n"
        "shifter-timeout: 500m\r\n\r\n{"
    )
    async with world.open() as client:
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.readuntil(b"}")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b'"reason":"expired"' in answer


@pytest.mark.parametrize("headers", [{}, PLENTY])
async def test_request_that_its_server_cancels_ends_and_frees_its_slot(headers):
    world = World()
    sent = []

    async def send(event) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/slow",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    async with TestApp(world.app):
        task = asyncio.create_task(world.front(scope, asyncio.Event().wait, send))
        async with asyncio.timeout(PATIENCE_S):
            while not world.app.admission.inflight:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        inflight = world.app.admission.inflight

    assert (inflight, sent) == (0, [])
    assert world.cancelled.is_set()


async def test_nothing_is_sent_after_a_response_that_was_cut():
    """By ASGI's own words, whatever the service does with its cancellation."""
    world, sent, errors = World(), [], []

    async def service(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await send({"type": "http.response.body", "body": b"late"})
        except OSError as error:
            errors.append(type(error))
            raise

    async def send(event) -> None:
        sent.append(event["type"])

    front = AdmissionMiddleware(service, world.app)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"shifter-timeout", b"500m")],
    }
    async with TestApp(world.app):
        await front(scope, None, send)

    assert sent == ["http.response.start"]
    assert len(errors) == 1
    assert front.cut == 1


async def test_caller_that_has_left_at_its_deadline_is_no_error():
    world = World()

    async def service(scope, receive, send) -> None:
        await asyncio.Event().wait()

    async def send(event) -> None:
        raise OSError

    front = AdmissionMiddleware(service, world.app)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"shifter-timeout", b"500m")],
    }
    async with TestApp(world.app):
        await front(scope, None, send)
        inflight = world.app.admission.inflight

    assert (front.late, front.cut, inflight) == (1, 0, 0)


async def test_thread_of_asyncio_keeps_its_slot_and_what_follows_it_is_cancelled():
    world, went_on = World(), []

    async def service(scope, receive, send) -> None:
        await asyncio.to_thread(world.thread_gate.wait, PATIENCE_S)
        await asyncio.sleep(0.5)
        went_on.append(scope)

    sent = []

    async def send(event) -> None:
        sent.append(event.get("status"))

    front = AdmissionMiddleware(service, world.app)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"shifter-timeout", b"500m")],
    }
    async with TestApp(world.app):
        call = asyncio.create_task(front(scope, None, send))
        async with asyncio.timeout(PATIENCE_S):
            while not sent:
                await asyncio.sleep(0.005)
        held = world.app.admission.inflight
        world.thread_gate.set()
        await call

    assert (sent[0], held, went_on) == (504, 1, [])
