"""What tracing adds to a job, in processor time: with no SDK, and with what an SDK drops.

``python -m benchmarks.traces`` prints microseconds for the submission and the attempt of
one job, the least of many short rounds, beside the bare span of the SDK. Each case is a
process of its own, since OpenTelemetry stays imported.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed
from shifter.adapters.system import SystemClock
from shifter.model.job import JobSpec
from shifter.model.lane import Lane, Priority
from shifter.ports import Delivery
from shifter.produce.options import CallOptions, plan_call
from shifter.produce.record_maker import RecordMaker
from shifter.telemetry.trace_context import follow
from shifter.telemetry.tracing import Spans, Tracing
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers
from shifter.work.attempt import SUCCEEDED, Attempt
from shifter.work.item import Item, ItemReader
from shifter.work.job_spans import JobSpans

REPEATS: Final = 1_000
ROUNDS: Final = 300
LANE: Final = Lane("shop", "mail", Priority.NORMAL)
UNSAMPLED: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
_FEED: Final = MemoryLaneFeed(MemoryLog(SystemClock()), [])
CASES: Final = ("no OpenTelemetry", "API without an SDK", "SDK, unsampled")


def least_us(call: Callable[[], object]) -> float:
    """Processor time of one call, in microseconds."""
    rounds = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(REPEATS):
            call()
        rounds.append(time.process_time() - before)
    return min(rounds) / REPEATS * 1e6


def attempt_of(traceparent: str | None) -> Attempt:
    """An attempt of a job that was submitted within a trace, or without one."""
    clock = SystemClock()
    now = clock.epoch_ms()
    envelope = EnvelopeV1(v=1, id="0190163d-8694-739b-aea5-000000000001", type="pay")
    headers = build_headers(
        envelope, content_type="application/json", traceparent=traceparent
    )
    delivery = Delivery(LANE.name, None, b"{}", headers, now, 0, 5)
    item = ItemReader({LANE.name: LANE}, {}).read(delivery, _FEED, now)
    assert isinstance(item, Item)
    attempt = Attempt(item, clock, timeout_ms=1_000)
    attempt.begin(clock.monotonic(), now)
    return attempt


def measure(case: str) -> None:
    """Print the costs of one case."""
    if case != CASES[0]:
        import opentelemetry.trace as api
    if case == CASES[2]:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

        provider = TracerProvider(sampler=ALWAYS_OFF)
        api.set_tracer_provider(provider)
        tracer = provider.get_tracer("bare")
        show(case, "bare span of the SDK", lambda: tracer.start_span("bare"))
    spans = Spans(Tracing(), system="kafka")
    for name, traceparent in (("no trace", None), ("unsampled trace", UNSAMPLED)):
        follow(traceparent)
        show(case, f"submission, {name}", submission(spans))
        show(case, f"attempt, {name}", run(spans, traceparent))


def submission(spans: Spans) -> Callable[[], object]:
    """What a submission does for its trace."""
    maker = RecordMaker(SystemClock(), spans)
    plan = plan_call("shop", JobSpec(name="pay"), CallOptions())

    def call() -> None:
        span, _ = maker._traced(plan, 1.0, "id")
        if span is not None:
            span.end((), 2.0)

    return call


def run(spans: Spans, traceparent: str | None) -> Callable[[], object]:
    """What an attempt does for its trace, in a batch of its own."""
    attempt, of_jobs = attempt_of(traceparent), JobSpans(spans)

    def call() -> None:
        attempt.span = None
        of_jobs.look()
        if of_jobs.is_on or traceparent is not None:
            of_jobs.enter(attempt, is_apart=False)
        if of_jobs.is_on:
            of_jobs.end(attempt, SUCCEEDED, None, attempt.started_at + 1)

    return call


def show(case: str, name: str, call: Callable[[], object]) -> None:
    """Print one cost."""
    sys.stdout.write(f"{case:20} {name:30} {least_us(call):6.2f} us\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for each in CASES:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.traces", each], check=True
            )
