"""Jobs of a service that sends its traces over OTLP, as its own setup does."""

from __future__ import annotations

import asyncio
import os

from opentelemetry import baggage, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from shifter import Context, DeadLetter, Shifter

provider = TracerProvider(resource=Resource({"service.name": "shop"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")

app = Shifter(os.environ.get("TEST_NAMESPACE", "shop"))


def own_span(name: str) -> None:
    with tracer.start_as_current_span(name) as span:
        span.set_attribute("tenant", str(baggage.get_baggage("tenant")))


@app.job
async def in_loop(ctx: Context) -> None:
    own_span("inside in_loop")
    if ctx.attempt == 1:
        raise ValueError("not yet")
    await in_process.defer()


@app.job
def in_thread() -> None:
    own_span("inside in_thread")


@app.job(isolate="process")
def in_process() -> None:
    own_span("inside in_process")
    in_thread.defer_sync()


@app.job(attempts=1)
async def hopeless(ctx: Context) -> None:
    if ctx.idempotency_key == ctx.job_id:
        raise DeadLetter("no such customer")


async def replay() -> None:
    async with app.dead_letters("default") as letters:
        run = await letters.replay(reason="mended", by="ann@host")
    assert run.moved == 1


if __name__ == "__main__":
    asyncio.run(replay())
