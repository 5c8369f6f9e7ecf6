"""The ASGI middleware in an application that is mounted, or served under a root path.

It compared the whole path with its routes, so that below a prefix nothing matched: jobs
never became jobs (``Prefer: respond-async`` was answered 200 and nothing was durable),
and ``/healthz`` was refused while the service was busy. Right is to match without
``root_path``, and to put the prefix into every place that a client is sent to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from shifter import Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.testing import TestApp

NAMES = (f"prefix-{n}" for n in itertools.count())
PATIENCE_S = 20.0


class World:
    """An app with a job, a page that waits, and a health check."""

    def __init__(self) -> None:
        name = next(NAMES)
        self.app = Shifter(name, settings=Settings(namespace=name, concurrency=4))
        self.gate, self.seen = asyncio.Event(), []

        @self.app.job
        async def make_report(pages: int) -> int:
            return pages

        self.job = make_report
        self.options = {
            "app": self.app,
            "jobs": {"POST /reports": make_report},
            "classify": self.classify,
            "result": lambda job_id: f"/results/{job_id}",
        }
        self.routes = [
            Route("/page", self.page),
            Route("/healthz", self.healthz),
            Route("/results/{job_id}", self.healthz),
        ]

    def classify(self, request) -> None:
        self.seen.append((request.root_path, request.path))

    async def page(self, request) -> PlainTextResponse:
        await self.gate.wait()
        return PlainTextResponse("served")

    async def healthz(self, request) -> PlainTextResponse:
        return PlainTextResponse("well")

    def mounted(self) -> Starlette:
        """The middleware itself mounted."""
        inner = AdmissionMiddleware(Starlette(routes=self.routes), **self.options)
        return Starlette(routes=[Mount("/v1", app=inner)])

    def sub_application(self) -> FastAPI:
        """A mounted FastAPI that has the middleware."""
        sub = FastAPI()
        sub.router.routes.extend(self.routes)
        sub.add_middleware(AdmissionMiddleware, **self.options)
        service = FastAPI()
        service.mount("/v1", sub)
        return service

    def twice_mounted(self) -> Starlette:
        """A mount within a mount: the prefix has two parts."""
        return Starlette(routes=[Mount("/api", app=self.mounted())])

    def plain(self) -> Starlette:
        """No mount: the server has the root path."""
        service = Starlette(routes=self.routes)
        service.add_middleware(AdmissionMiddleware, **self.options)
        return service

    def with_root_path(self):
        """A proxy that strips the prefix; FastAPI's own ``root_path`` is the same."""
        inner = self.plain()

        async def service(scope, receive, send) -> None:
            await inner({**scope, "root_path": "/v1"}, receive, send)

        return service


@contextlib.asynccontextmanager
async def serving(service, **options):
    """A real uvicorn on loopback; yields a client."""
    config = uvicorn.Config(
        service, host="127.0.0.1", port=0, log_level="warning", **options
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_S):
        while not server.started:
            await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
            yield client
    finally:
        server.should_exit = True
        await running


CASES = [
    # how, the server's root path, what a client asks below, what it is sent to
    ("mounted", "", "/v1", "/v1"),
    ("sub_application", "", "/v1", "/v1"),
    ("twice_mounted", "", "/api/v1", "/api/v1"),
    ("plain", "/api", "", "/api"),
    ("plain", "/api/", "", "/api"),
    ("mounted", "/api", "/v1", "/api/v1"),
    ("with_root_path", "", "", "/v1"),
    ("plain", "", "", ""),
]


@pytest.mark.parametrize(("how", "root_path", "asked", "told"), CASES)
async def test_job_route_below_a_prefix_is_a_job_with_a_place_to_look(
    how, root_path, asked, told
):
    world = World()
    async with TestApp(world.app) as test:
        service = getattr(world, how)()
        async with serving(service, root_path=root_path) as client:
            answer = await client.post(
                f"{asked}/reports",
                json={"pages": 3},
                headers={"prefer": "respond-async"},
            )
            job_id = answer.json()["job_id"]
            waiting = await client.get(f"{asked}/jobs/{job_id}")
            await test.drain()
            done = await client.get(f"{asked}/jobs/{job_id}")

    assert answer.status_code == 202
    assert answer.headers["location"] == f"{told}/jobs/{job_id}"
    assert answer.json()["status"] == f"{told}/jobs/{job_id}"
    assert waiting.json()["state"] == "waiting"
    assert (done.status_code, done.headers["location"]) == (
        303,
        f"{told}/results/{job_id}",
    )
    assert len(world.job.calls) == 1
    assert world.seen[0] == (told, "/reports")


@pytest.mark.parametrize(("how", "root_path", "asked", "told"), CASES)
async def test_health_below_a_prefix_is_never_refused(how, root_path, asked, told):
    world = World()
    async with TestApp(world.app):
        service = getattr(world, how)()
        async with serving(service, root_path=root_path) as client:
            busy = [asyncio.create_task(client.get(f"{asked}/page")) for _ in range(3)]
            async with asyncio.timeout(PATIENCE_S):
                while world.app.admission.inflight < 3:
                    await asyncio.sleep(0.005)
            refused = await client.get(f"{asked}/page")
            health = await client.get(f"{asked}/healthz")
            world.gate.set()
            served = [(await one).status_code for one in busy]

    assert refused.status_code == 503
    assert (health.status_code, health.text) == (200, "well")
    assert served == [200, 200, 200]


def scope(path: str, root_path: str = "", **more) -> dict:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": root_path,
        "headers": [],
    } | more


async def ask(service, body: bytes = b"{}", **request):
    """What a service sends for one request."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event):
        sent.append(event)

    await service(request, receive, send)
    return sent


@pytest.mark.parametrize(
    ("path", "root_path", "seen"),
    [
        ("/v1/page", "/v1", "/page"),
        ("/v1/page", "/v1/", "/page"),
        ("/v1", "/v1", "/"),
        ("/v1", "/v1/", "/"),
        ("/v10/page", "/v1", "/v10/page"),
        ("/page", "/v1", "/page"),
        ("/page", "", "/page"),
        ("/v1/v1/page", "/v1", "/v1/page"),
    ],
)
async def test_path_of_a_request_is_without_the_root_path(path, root_path, seen):
    world, found = World(), []

    async def service(scope, receive, send) -> None:
        found.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with TestApp(world.app):
        front = AdmissionMiddleware(service, **world.options)
        await ask(front, **scope(path, root_path))

    assert [path for _, path in world.seen] == [seen]
    assert found == [path]


async def test_scope_without_a_root_path_is_served():
    world = World()
    async with TestApp(world.app):
        front = AdmissionMiddleware(world.plain(), **world.options)
        request = scope("/healthz")
        del request["root_path"]
        sent = await ask(front, **request)

    assert sent[0]["status"] == 200


async def test_prefix_beyond_ascii_is_encoded_where_a_client_is_sent_to():
    world = World()
    prefer = [(b"prefer", b"respond-async")]
    async with TestApp(world.app):
        front = AdmissionMiddleware(world.plain(), **world.options)
        request = scope("/ü/reports", "/ü", method="POST", headers=prefer)
        sent = await ask(front, b'{"pages": 1}', **request)

    place = dict(sent[0]["headers"])[b"location"]
    assert sent[0]["status"] == 202
    assert place.startswith(b"/%C3%BC/jobs/")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("/results/7", "/v1/results/7"),
        ("/v1/results/7", "/v1/results/7"),
        ("https://cdn.example/7", "https://cdn.example/7"),
        ("//cdn.example/7", "//cdn.example/7"),
        ("/größe/7\r\nx: y", "/v1/gr%C3%B6%C3%9Fe/7%0D%0Ax:%20y"),
    ],
)
async def test_result_of_a_job_is_placed_below_the_prefix_unless_it_is_elsewhere(
    result, told
):
    world = World()
    world.options["result"] = lambda job_id: result
    async with TestApp(world.app) as test, contextlib.AsyncExitStack() as stack:
        service = world.mounted()
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(service), base_url="http://web"
            )
        )
        answer = await client.post(
            "/v1/reports", json={"pages": 1}, headers={"prefer": "respond-async"}
        )
        await test.drain()
        done = await client.get(answer.headers["location"])

    assert (done.status_code, done.headers["location"]) == (303, told)


async def test_websockets_pass_and_are_counted_while_they_are_open():
    world, opened, gate = World(), asyncio.Event(), asyncio.Event()

    async def service(scope, receive, send) -> None:
        assert scope["type"] == "websocket"
        opened.set()
        await gate.wait()

    front = AdmissionMiddleware(service, **world.options)
    socket = {"type": "websocket", "path": "/v1/feed", "headers": []}
    async with TestApp(world.app):
        connection = asyncio.create_task(front(socket, None, None))
        await opened.wait()
        during = (front.websockets, front.open_websockets, world.app.admission.inflight)
        gate.set()
        await connection

    assert during == (1, 1, 0)
    assert (front.websockets, front.open_websockets) == (1, 0)


async def test_websocket_that_fails_is_no_longer_counted_as_open():
    world = World()

    async def service(scope, receive, send) -> None:
        raise OSError

    front = AdmissionMiddleware(service, **world.options)
    with pytest.raises(OSError):  # noqa: PT011  # the service's own
        await front({"type": "websocket", "path": "/", "headers": []}, None, None)

    assert (front.websockets, front.open_websockets) == (1, 0)


async def test_example_service_works_under_a_root_path(tmp_path, namespace):
    """As a process of its own, by the command line of uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "examples.services.web:service"]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--host", "127.0.0.1", "--port", "0", "--root-path", "/shop"),
        env={
            "SHIFTER_LOG": f"sqlite://{tmp_path / 'log.db'}",
            "SHIFTER_NAMESPACE": namespace,
            "REPORTS": str(tmp_path),
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
        },
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while b"running on http" not in (line := await process.stderr.readline()):
                assert line, "the service ended"
        port = line.split(b"127.0.0.1:")[1].split()[0].decode()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post(
                "/reports", json={"order": "7"}, headers={"prefer": "respond-async"}
            )
            health = await client.get("/healthz")
    finally:
        process.kill()
        await process.communicate()

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/shop/jobs/{answer.json()['job_id']}"
    assert health.status_code == 200
