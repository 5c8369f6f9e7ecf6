"""A gRPC service in front of which shifter decides, and which calls another one.

    pip install 'shifter-queue[grpc]'
    python -m examples.services.rpc --port 50051
    python -m examples.services.rpc --port 50052 --behind localhost:50051

Requests and answers are JSON, so that there is nothing to generate; with generated code
the two marked lines are the same. ``Quote`` on the second server asks the first one: it
takes along what is left of the deadline, the priority and the height of its own caller.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
import msgspec

from examples.services.reports import app, make_report
from shifter import Deferred, Reason, Shed
from shifter.grpc import AdmissionInterceptor, calling
from shifter.jobs.request_scope import ambient, left_ms

_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
_SERVING = b"\x08\x01"
"""``HealthCheckResponse(status=SERVING)`` of grpc.health.v1."""


class Shop:
    """The service ``shop.Shop``."""

    def __init__(self, behind: grpc.aio.Channel | None) -> None:
        self._behind = behind

    async def quote(self, asked: dict[str, Any], _: Any) -> dict[str, Any]:
        """A price, from the server behind this one if there is one."""
        await asyncio.sleep(asked.get("seconds", 0.0))
        around = ambient()
        told = {
            "left_ms": left_ms(app.publisher.clock.epoch_ms()),
            "priority": around.priority,
            "draw": around.draw,
        }
        if self._behind is None:
            return {"price": 42, "told": [told]}
        ask = self._behind.unary_unary("/shop.Shop/Quote", msgspec.json.encode)
        found = msgspec.json.decode(await ask({}))
        return {**found, "told": [told, *found["told"]]}

    async def order(self, asked: dict[str, Any], context: Any) -> dict[str, Any]:
        """Make the report of an order, now or later; the caller's deadline is its."""
        answer = await make_report.submit(**asked)
        match answer:
            case Deferred(job_id):
                return {"job_id": job_id}
            case Shed():
                is_late = answer.reason is Reason.EXPIRED
                await context.abort(_LATE if is_late else _FULL, answer.reason.value)
        return {"report": answer.value}

    async def track(self, asked: dict[str, Any], _: Any) -> AsyncGenerator[Any]:
        """A stream keeps its slot until its end."""
        for step in range(asked.get("steps", 3)):
            yield {"step": step}
            await asyncio.sleep(asked.get("seconds", 0.0))


async def serve(port: int, behind: str | None) -> None:
    """Serve until told to stop; then calls under way have five seconds."""
    async with app:
        channel = None
        if behind is not None:
            interceptors = calling(app)  # a line of ours
            channel = grpc.aio.insecure_channel(behind, interceptors=interceptors)
        guard = AdmissionInterceptor(app, trusts_priority=True)  # callers are ours
        server = grpc.aio.server(interceptors=[guard])  # the other
        server.add_generic_rpc_handlers(handlers(Shop(channel)))
        found = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        print(f"serving on 127.0.0.1:{found}", flush=True)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()
        await server.stop(5.0)
        if channel is not None:
            await channel.close()


def handlers(shop: Shop) -> list[grpc.GenericRpcHandler]:
    """What generated code would register, with JSON for protobuf."""
    coding = {
        "request_deserializer": msgspec.json.decode,
        "response_serializer": msgspec.json.encode,
    }
    methods = {
        "Quote": grpc.unary_unary_rpc_method_handler(shop.quote, **coding),
        "Order": grpc.unary_unary_rpc_method_handler(shop.order, **coding),
        "Track": grpc.unary_stream_rpc_method_handler(shop.track, **coding),
    }
    health = {"Check": grpc.unary_unary_rpc_method_handler(_check)}
    return [
        grpc.method_handlers_generic_handler("shop.Shop", methods),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
    ]


async def _check(_: bytes, __: Any) -> bytes:
    return _SERVING


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m examples.services.rpc")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--behind", help="host:port of another such server")
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.behind))


if __name__ == "__main__":
    main()
