"""The spans of submissions and attempts, as an SDK records them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import grpc.aio
import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider

from shifter import (
    Context,
    DeadLetter,
    Deferred,
    Degraded,
    Discard,
    Ran,
    Retry,
    Shifter,
)
from shifter.asgi import AdmissionMiddleware
from shifter.grpc import AdmissionInterceptor
from shifter.jobs.request_scope import current_traceparent, within
from shifter.model.claim import JobState
from shifter.policy.admission.input import DependencyNeeds
from shifter.protection import EvidencePolicy
from shifter.telemetry import Tracing, job_fields
from shifter.telemetry.trace_context import read_trace
from shifter.telemetry.tracing import Spans, flush
from shifter.testing import TestApp
from tests.integration.drain_world import World, submit
from tests.integration.traces import Traces, ids, linked

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "baggage": "tenant=acme"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-00"}
CALLER_IDS = int(TRACE_ID, 16), int(SPAN_ID, 16)


@pytest.fixture
def traces():
    return Traces()


@pytest.fixture
def app(traces):
    return Shifter("shop", tracing=traces.tracing)


def test_a_submission_and_its_attempt_are_spans_of_two_traces_with_a_link(app, traces):
    @app.job(queue="mail")
    async def send(to: str) -> None: ...

    with TestApp(app) as test, traces.own.start_as_current_span("request") as request:
        answer = send.options(delay="30s").defer_sync("ann")
        test.drain_sync("1m")

    sent, done = traces.one("send"), traces.one("process")
    assert (sent.name, sent.kind) == ("send shop.mail.normal", SpanKind.PRODUCER)
    assert (done.name, done.kind) == ("process shop.mail.normal", SpanKind.CONSUMER)
    assert ids(sent.parent) == ids(request.get_span_context())
    assert done.parent is None
    assert linked(done) == [ids(sent.context)]
    assert done.status.status_code is StatusCode.UNSET
    assert sent.attributes["shifter.outcome"] == "accepted"
    assert done.attributes["shifter.outcome"] == "done"
    of_job = {
        "messaging.system": "memory",
        "messaging.destination.name": "shop.mail.normal",
        "messaging.message.id": answer.job_id,
        "shifter.job": "send",
        "shifter.queue": "mail",
        "shifter.priority": "NORMAL",
    }
    # A sampler sees what is known at the start.
    assert traces.sampler.seen[sent.name] == {
        **of_job,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "shifter.decision": "defer",
    }
    assert traces.sampler.seen[done.name] == {
        **of_job,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.partition.id": "0",
        "messaging.memory.offset": 0,
        "shifter.decision": "run",
        "shifter.reason": "accepted",
        "shifter.attempt": 1,
        "shifter.wait": 30.0,
    }


def test_the_submission_is_the_parent_where_the_app_wants_it():
    traces = Traces(is_parent=True)
    app = Shifter("shop", tracing=traces.tracing)

    @app.job
    async def send() -> None: ...

    with TestApp(app) as test:
        send.defer_sync()
        test.drain_sync()

    done = traces.one("process")
    assert ids(done.parent) == ids(traces.one("send").context)
    assert linked(done) == []


@pytest.mark.parametrize("isolate", [None, "process"])
@pytest.mark.parametrize("is_async", [True, False])
def test_the_span_is_current_in_the_handler_with_the_baggage_of_the_submission(
    app, traces, is_async, isolate
):
    seen = []

    @app.job
    async def child() -> None: ...

    def inside() -> None:
        with traces.own.start_as_current_span("inside"):
            seen.append(baggage.get_baggage("tenant"))

    if is_async:

        @app.job(name="outer", isolate=isolate)
        async def outer() -> None:
            inside()
            await child.defer()

    else:

        @app.job(name="outer", isolate=isolate)
        def outer() -> None:
            inside()
            child.defer_sync()

    with TestApp(app) as test:
        token = attach(baggage.set_baggage("tenant", "acme, ltd"))
        outer.defer_sync()
        detach(token)
        test.drain_sync()

    done = traces.one("process", "outer")
    assert seen == ["acme, ltd"]
    assert ids(traces.one("inside").parent) == ids(done.context)
    assert ids(traces.one("send", "child").parent) == ids(done.context)
    of_child = traces.one("process", "child")
    assert linked(of_child) == [ids(traces.one("send", "child").context)]


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("is_degraded", [True, False])
async def test_what_submit_runs_is_a_span_of_the_request(
    app, traces, is_degraded, is_async
):
    seen = []

    def inside() -> None:
        seen.append(trace.get_current_span().get_span_context())

    async def inside_async() -> None:
        inside()

    job = app.job(name="here", uses=app.dependency("mailer"))(inside_async)
    job.fallback(inside_async if is_async else inside)

    async with TestApp(app):
        if is_degraded:
            views, open_ = app.admission.views, DependencyNeeds(is_open=True)
            app.admission.views = views._replace(needs=lambda *_: open_)
        with traces.own.start_as_current_span("request"):
            answer = await job.submit()

    done, request = traces.one("process", "here"), traces.one("request")
    assert isinstance(answer, Degraded if is_degraded else Ran)
    assert [ids(one) for one in seen] == [ids(done.context)]
    assert ids(done.parent) == ids(request.context)
    decision = ("degrade", "circuit_open") if is_degraded else ("run", "accepted")
    start = traces.sampler.seen[done.name]
    assert (start["shifter.decision"], start["shifter.reason"]) == decision
    assert (start["shifter.attempt"], start["shifter.wait"]) == (1, 0.0)
    assert traces.named("send") == []


async def test_an_error_of_what_submit_runs_is_recorded_and_a_signal_is_none(
    app, traces
):
    @app.job
    async def fails() -> None:
        raise ValueError("no")

    @app.job
    async def later() -> None:
        raise Retry(after="1m")

    async with TestApp(app):
        with pytest.raises(ValueError, match="no"):
            await fails.submit()
        assert isinstance(await later.submit(), Deferred)

    failed, put_off = traces.one("process", "fails"), traces.one("process", "later")
    assert failed.status.status_code is StatusCode.ERROR
    assert [event.name for event in failed.events] == ["exception"]
    assert put_off.status.status_code is StatusCode.UNSET
    assert put_off.attributes["shifter.outcome"] == "waiting"
    start = traces.sampler.seen["send shop.default.normal"]
    assert start["shifter.reason"] == "retry_asked"


def test_each_attempt_is_a_span_with_the_link_of_the_first(app, traces):
    @app.job(attempts=3)
    async def fails(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")

    with TestApp(app) as test:
        fails.defer_sync()
        test.drain_sync("10m")

    attempts = traces.named("process")
    submission = ids(traces.one("send").context)
    assert [linked(span) for span in attempts] == [[submission]] * 3
    assert [span.attributes["shifter.attempt"] for span in attempts] == [1, 2, 3]
    assert len({span.context.trace_id for span in attempts}) == 3
    outcomes = [span.attributes["shifter.outcome"] for span in attempts]
    assert outcomes == ["waiting", "waiting", "done"]
    first = attempts[0]
    assert first.status.status_code is StatusCode.ERROR
    assert first.attributes["error.type"] == "ValueError"
    (event,) = first.events
    assert event.attributes["exception.message"] == "attempt 1"
    assert event.attributes["exception.stacktrace"].endswith("fails")
    waits = [span.attributes["shifter.wait"] for span in attempts]
    assert waits == sorted(waits)
    assert waits[1] > 0


@pytest.mark.parametrize(
    ("error", "outcome", "is_error"),
    [
        (Discard("no longer wanted"), "discarded", False),
        (DeadLetter("no such customer"), "dead", True),
        (Retry(after="1h"), "waiting", False),
    ],
)
def test_a_signal_is_an_error_only_where_the_job_is_given_up(
    app, traces, error, outcome, is_error
):
    @app.job
    async def job() -> None:
        raise error

    with TestApp(app) as test:
        job.defer_sync()
        test.drain_sync()

    span = traces.one("process")
    assert span.attributes["shifter.outcome"] == outcome
    assert (span.status.status_code is StatusCode.ERROR) is is_error


async def test_many_jobs_are_one_span_that_all_of_them_link_to(app, traces):
    @app.job
    async def job(number: int) -> None: ...

    async with TestApp(app, concurrency=10) as test:
        await job.defer_many([(number,) for number in range(3)])
        await test.drain()

    sent = traces.one("send")
    assert sent.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in sent.attributes
    assert [linked(one) for one in traces.named("process")] == [[ids(sent.context)]] * 3


async def test_a_job_that_its_log_refuses_is_an_error_with_the_reason(traces):
    world = World(spans=Spans(traces.tracing, system="memory"))

    @world.app.job
    async def job(text: str) -> None: ...

    await world.open()
    world.narrow("shop.default.normal", 100)
    answer = await job.defer("x" * 200)

    sent = traces.one("send")
    assert answer.reason.value == "too_large"
    assert sent.status.status_code is StatusCode.ERROR
    assert sent.attributes["error.type"] == "too_large"


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_fallback_in_a_worker_is_current_and_has_the_reason(
    app, traces, is_async
):
    evidence, seen = EvidencePolicy(consecutive_failures=1), []
    mailer = app.dependency("mailer", evidence=evidence)

    @app.job(uses=mailer)
    async def fails() -> None:
        raise OSError("refused")

    @app.job(uses=mailer)
    async def degraded() -> None: ...

    def inside() -> None:
        seen.append(trace.get_current_span().get_span_context())

    async def inside_async() -> None:
        inside()

    degraded.fallback(inside_async if is_async else inside)
    async with TestApp(app) as test:
        for job in (fails, degraded):
            await job.defer()
        await test.drain()

    span = traces.one("process", "degraded")
    assert [ids(one) for one in seen] == [ids(span.context)]
    assert span.attributes["shifter.decision"] == "degrade"
    assert span.attributes["shifter.reason"] == "circuit_open"


def test_an_unsampled_trace_has_no_spans_and_goes_on():
    silent, seen = Traces(ALWAYS_OFF), []
    app = Shifter("shop", tracing=silent.tracing)

    @app.job
    async def job() -> None:
        seen.append(trace.get_current_span().get_span_context())

    with TestApp(app) as test, silent.own.start_as_current_span("request") as request:
        job.defer_sync()
        test.drain_sync()

    assert silent.named("") == []
    assert "process" not in "".join(silent.sampler.seen)
    assert [ids(one) for one in seen] == [ids(request.get_span_context())]
    assert not seen[0].trace_flags.sampled


async def test_spans_last_as_long_as_their_metrics_count(traces):
    world = World(spans=Spans(traces.tracing, system="memory"))

    @world.app.job
    async def sleeps() -> None:
        await asyncio.sleep(0.05)

    @world.app.job(attempts=1)
    def fails() -> None:
        raise ValueError("no")

    await world.open()
    async with world.working() as drain:
        await world.ended(await submit(sleeps), JobState.DONE)
        await world.ended(await submit(fails), JobState.DEAD)

    (series,) = drain.observer._lanes.values()
    processed = [_took_s(span) for span in traces.named("process")]
    assert processed == pytest.approx(series.durations, abs=1e-8)
    sent = [_took_s(span) for span in traces.named("send")]
    assert sent == pytest.approx(world.appends, abs=1e-8)
    assert len(sent) == len(processed) == 2


def test_an_attempt_that_its_deadline_ends_is_an_error(app, traces):
    @app.job(deadline="5s")
    async def job() -> None:
        await asyncio.sleep(60)

    with TestApp(app) as test:
        job.defer_sync()
        test.drain_sync("1m")

    span = traces.one("process")
    assert span.attributes["shifter.outcome"] == "expired"
    assert span.attributes["error.type"] == "expired"
    assert span.status.status_code is StatusCode.ERROR


async def test_lines_about_a_job_have_the_trace_of_its_attempt(traces, caplog):
    caplog.set_level("INFO", logger="shifter")
    world, of_handler = World(spans=Spans(traces.tracing, system="memory")), []

    @world.app.job
    async def job() -> None:
        of_handler.append(job_fields()["trace_id"])

    await world.open()
    async with world.working():
        await world.ended(await submit(job), JobState.DONE)

    trace_id = f"{traces.one('process').context.trace_id:032x}"
    (line,) = [text for text in caplog.messages if "job.ended" in text]
    assert of_handler == [trace_id]
    assert trace_id in line


async def test_a_change_of_a_circuit_is_an_event_of_the_jobs_that_call_it(app, traces):
    evidence = EvidencePolicy(consecutive_failures=2)
    mailer = app.dependency("mailer", evidence=evidence)
    printer = app.dependency("printer")

    @app.job(uses=mailer)
    async def fails() -> None:
        raise OSError("refused")

    @app.job(uses=mailer)
    async def goes_on() -> None:
        await asyncio.sleep(60)

    @app.job(uses=printer)
    async def other() -> None:
        await asyncio.sleep(60)

    async with TestApp(app, concurrency=10) as test:
        for job in (goes_on, other, fails, fails):
            await job.defer()
        await test.drain()

    events = circuit_events(traces)
    assert sorted(job for job, _ in events) == ["fails", "goes_on"]
    for _, attributes in events:
        assert attributes["shifter.dependency"] == "mailer"
        assert attributes["shifter.scope"] == "process"


async def test_a_handler_that_opens_a_circuit_has_the_event_once(app, traces):
    mailer = app.dependency("mailer", evidence=EvidencePolicy(consecutive_failures=1))

    @app.job(uses=app.dependency("printer"))
    async def calls_it() -> None:
        with contextlib.suppress(OSError):
            async with mailer:
                raise OSError("refused")

    async with TestApp(app, concurrency=10) as test:
        await calls_it.defer()
        await test.drain()

    assert [job for job, _ in circuit_events(traces)] == ["calls_it"]


def test_the_wait_ends_where_the_attempt_starts(app, traces):
    @app.job
    async def job() -> None:
        await asyncio.sleep(10)

    with TestApp(app, concurrency=1) as test:
        job.defer_sync()
        job.defer_sync()
        test.drain_sync("1m")

    waits = [span.attributes["shifter.wait"] for span in traces.named("process")]
    assert waits == [0.0, pytest.approx(10.0, abs=0.1)]


@pytest.mark.parametrize("caller", [CALLER, UNSAMPLED])
async def test_the_caller_of_a_job_route_is_the_parent_of_the_submission(
    app, traces, caller
):
    seen = []

    @app.job
    async def report() -> None:
        seen.append((current_traceparent(), baggage.get_baggage("tenant")))

    middleware = AdmissionMiddleware(None, app, jobs={"POST /reports": report})
    transport = httpx.ASGITransport(middleware)
    async with (
        TestApp(app) as test,
        httpx.AsyncClient(transport=transport, base_url="http://web") as client,
    ):
        headers = {**caller, "prefer": "respond-async"}
        answer = await client.post("/reports", headers=headers)
        assert answer.status_code == 202
        await test.drain()

    if caller is UNSAMPLED:
        assert traces.named("") == []
        assert seen == [(UNSAMPLED["traceparent"], None)]
    else:
        assert ids(traces.one("send").parent) == CALLER_IDS
        assert linked(traces.one("process")) == [ids(traces.one("send").context)]
        assert [tenant for _, tenant in seen] == ["acme"]


async def test_the_caller_of_a_grpc_method_is_the_parent_of_the_submission(app, traces):
    @app.job
    async def report() -> None: ...

    async def order(request: bytes, _: object) -> bytes:
        await report.defer()
        return request

    server = grpc.aio.server(interceptors=[AdmissionInterceptor(app)])
    methods = {"Order": grpc.unary_unary_rpc_method_handler(order)}
    handler = grpc.method_handlers_generic_handler("shop", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    async with TestApp(app) as test:
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/shop/Order")
            await call(b"", metadata=tuple(CALLER.items()), timeout=30)
        await server.stop(None)
        await test.drain()

    assert ids(traces.one("send").parent) == CALLER_IDS


async def test_without_a_provider_the_trace_of_a_caller_travels_with_its_jobs():
    app, seen = Shifter("shop"), []

    @app.job
    async def child() -> None:
        seen.append((current_traceparent(), baggage.get_baggage("tenant")))

    @app.job
    async def report() -> None:
        await child.defer()

    with within(trace=read_trace([(k, v.encode()) for k, v in CALLER.items()])):
        async with TestApp(app) as test:
            await report.defer()
            await test.drain()

    assert seen == [(CALLER["traceparent"], "acme")]


class Broken(TracerProvider):
    """A provider whose tracers raise."""

    def get_tracer(self, *_, **__):
        return self

    def start_span(self, *_, **__):
        raise RuntimeError("no span")


async def test_a_tracer_that_raises_stops_no_job_and_is_logged_once(caplog):
    app, done = Shifter("shop", tracing=Tracing(Broken())), []

    @app.job
    async def job() -> None:
        done.append(1)

    async with TestApp(app) as test:
        for _ in range(3):
            assert isinstance(await job.defer(), Deferred)
        assert isinstance(await job.submit(), Ran)
        report = await test.drain()

    assert (len(done), report.done) == (4, 3)
    said = [one for one in caplog.records if "span.failed" in one.getMessage()]
    assert len(said) == 1


def test_a_flush_that_hangs_is_waited_for_no_longer_than_allowed():
    class Hanging(Broken):
        def force_flush(self, *_):
            threading.Event().wait(30)

    began = time.monotonic()
    flush(Tracing(Hanging()), timeout_s=0.1)

    assert time.monotonic() - began < 20


def circuit_events(traces: Traces) -> list[tuple[str, dict]]:
    """The jobs whose spans have the event of an opened circuit, and its attributes."""
    return [
        (span.attributes["shifter.job"], dict(event.attributes))
        for span in traces.named("process")
        for event in span.events
        if event.name == "shifter.circuit.opened"
    ]


def _took_s(span) -> float:
    return (span.end_time - span.start_time) / 1e9
