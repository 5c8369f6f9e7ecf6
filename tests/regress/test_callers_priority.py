"""How urgent a caller may say that its request is, over gRPC and over HTTP.

A gRPC service believed every caller up to CRITICAL unless it was told not to, and every
``shifter-height``; an HTTP service believed neither unless it was told to. Right is one
rule: a caller may make its request less urgent, and more urgent only where it is
trusted.
"""

from __future__ import annotations

import itertools

import grpc
import grpc.aio
import httpx
import pytest

from shifter import Priority, Shifter
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.grpc import AdmissionInterceptor
from shifter.jobs.request_scope import ambient
from shifter.policy.admission.prioritizer import granted_priority
from shifter.produce.publisher import Publisher
from shifter.testing import TestApp

NAMES = (f"trust-{n}" for n in itertools.count())
URGENCY = {"HIGH": "u=0", "NORMAL": "u=3", "LOW": "u=7"}


def new_app() -> Shifter:
    name = next(NAMES)
    return Shifter(name, settings=Settings(namespace=name))


async def over_grpc(asked: str | None, height: str = "31", **options):
    """What the handler saw, and what was cut."""
    app, seen = new_app(), []

    async def handler(request, context):
        seen.append(ambient())
        return request

    guard = AdmissionInterceptor(app, **options)
    server = grpc.aio.server(interceptors=[guard])
    methods = {"Do": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("t.S", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    clock = SystemClock()
    publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
    metadata = [("shifter-height", height)]
    if asked is not None:
        metadata.append(("shifter-priority", asked))
    with app.served_by(publisher, MemoryClaimStore(clock)):
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.unary_unary("/t.S/Do")(b"", metadata=metadata, timeout=20)
        await server.stop(None)
    [found] = seen
    return found.priority, found.draw, guard.ignored["shifter-priority"]


async def over_http(asked: str | None, height: str = "31", **options):
    """The same of an ASGI service."""
    app, seen = new_app(), []

    async def service(scope, receive, send) -> None:
        seen.append(ambient())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    front = AdmissionMiddleware(service, app, **options)
    transport = httpx.ASGITransport(front)
    headers = {"shifter-height": height}
    if asked is not None:
        headers["priority"] = URGENCY[asked]
    async with (
        TestApp(app),
        httpx.AsyncClient(transport=transport, base_url="http://web") as client,
    ):
        await client.get("/page", headers=headers)
    [found] = seen
    return found.priority, found.draw, front.ignored["priority"]


BOTH = pytest.mark.parametrize("ask", [over_grpc, over_http])
CASES = [
    # own, asked, trusted -> granted_priority, cut
    ("NORMAL", None, False, "NORMAL", 0),
    ("NORMAL", "LOW", False, "LOW", 0),
    ("NORMAL", "HIGH", False, "NORMAL", 1),
    ("HIGH", "LOW", False, "LOW", 0),
    ("LOW", "HIGH", False, "LOW", 1),
    ("NORMAL", "HIGH", True, "HIGH", 0),
    ("LOW", "NORMAL", True, "NORMAL", 0),
    ("HIGH", "NORMAL", True, "NORMAL", 0),
    ("CRITICAL", "HIGH", True, "HIGH", 0),
    ("CRITICAL", None, True, "CRITICAL", 0),
]


@BOTH
@pytest.mark.parametrize(("own", "asked", "trusts", "heeds", "cut"), CASES)
async def test_grpc_and_http_heed_a_callers_priority_by_one_rule(
    ask, own, asked, trusts, heeds, cut
):
    found = await ask(asked, classify=lambda _: Priority(own), trusts_priority=trusts)

    assert found == (Priority(heeds), 0.31 if trusts else None, cut)


@BOTH
async def test_no_caller_is_trusted_unless_the_service_allows_it(ask):
    assert await ask("HIGH") == (Priority.NORMAL, None, 1)


@pytest.mark.parametrize(
    ("options", "heeds", "cut"),
    [
        ({}, "NORMAL", 1),
        ({"trusts_priority": True}, "CRITICAL", 0),
        ({"highest": Priority.CRITICAL}, "CRITICAL", 0),
        ({"highest": Priority.HIGH}, "HIGH", 1),
        ({"trusts_priority": True, "highest": Priority.HIGH}, "HIGH", 1),
        ({"highest": Priority.LOW}, "NORMAL", 1),
    ],
)
async def test_critical_over_grpc_is_for_trusted_callers(options, heeds, cut):
    found = await over_grpc("CRITICAL", **options)

    assert (found[0], found[2]) == (Priority(heeds), cut)


@pytest.mark.parametrize("own", Priority)
@pytest.mark.parametrize("asked", [None, *Priority])
@pytest.mark.parametrize("highest", [None, *Priority])
def test_heeded_priority_is_never_above_both_the_own_and_the_highest(
    own, asked, highest
):
    found, was_cut = granted_priority(own, asked, highest=highest)

    most = max(own.rank, -1 if highest is None else highest.rank)
    assert found.rank <= most
    assert found is (own if asked is None else found)
    assert was_cut == (asked is not None and asked.rank > most)
