"""Headers beside the envelope made good jobs unreadable, and replays skipped them.

OpenTelemetry's instrumentation appends a second ``traceparent`` to each record; null
values, UTF-8 names, long values and thousands of headers come from other programs. All
of them made a record `undecodable_envelope`. Right: the envelope alone decides whether a
record is a job; of headers that repeat the first counts, what fits travels along, and
what does not fit is dropped and counted.
"""

from __future__ import annotations

import json
import logging
import sys
import uuid

import pytest

from shifter import Context, Retry
from shifter.deadletter.letter import Letter
from shifter.deadletter.plan import ReplayPolicy, ReplayRoutes, Send, decide
from shifter.jobs import request_scope
from shifter.model.claim import JobState
from shifter.model.lane import Lane, Priority
from shifter.ports import Delivery, Record
from shifter.wire.headers import Headers, read_headers
from tests.acceptance.conftest import fleet  # noqa: F401  # a fixture
from tests.integration.drain_world import World

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
LANE = "shop.default.normal"

ODD: dict[str, Headers] = {
    "trace twice": [("traceparent", TRACE.encode()), ("traceparent", OTHER.encode())],
    "trace null": [("traceparent", None)],
    "trace null, then one": [("traceparent", None), ("traceparent", TRACE.encode())],
    "trace 200 times": [("traceparent", OTHER.encode())] * 200,
    "trace state twice": [("tracestate", b"a=1"), ("tracestate", b"a=1")],
    "content type null": [("content-type", None)],
    "content type twice": [("content-type", b"application/json")] * 2,
    "value too long": [("x", b"v" * 200_000)],
    "name too long": [("x" * 40_000, b"v")],
    "name in UTF-8": [("größe", "groß".encode())],
    "name empty": [("", b"v")],
    "name with a line break": [("x\r\ny: z", b"v")],
    "value with a line break": [("x", b"a\r\nb")],
    "value null": [("x", None)],
    "name twice": [("x", b"1"), ("x", b"2")],
    "10,000 of them": [(f"x-{number}", b"") for number in range(10_000)],
    "in our name": [("shifter-x", b"v" * 100_000), ("SHIFTER", None)],
}
EACH = pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))


def envelope(job_id: str, **fields: object) -> tuple[str, bytes]:
    known = {"v": 1, "id": job_id, "type": "job", "due_ms": None, **fields}
    return ("shifter", json.dumps(known).encode())


@EACH
@pytest.mark.parametrize("place", ["before", "behind"])
async def test_a_job_runs_and_is_retried_whatever_its_headers_are(odd, place):
    world, job_id, runs = World(), str(uuid.uuid4()), []

    @world.app.job(name="job")
    async def handler(ctx: Context) -> None:
        runs.append(ctx.traceparent)
        if len(runs) < 3:
            raise Retry(0)

    await world.open()
    ours = [envelope(job_id)]
    headers = [*odd, *ours] if place == "before" else [*ours, *odd]
    await world.lane_log.append([Record(LANE, b"{}", headers)], timeout_s=30)

    async with world.working():
        await world.ended(job_id, JobState.DONE)

    given = [value for name, value in odd if name == "traceparent" and value]
    assert runs == [given[0].decode() if given else None] * 3
    assert await world.dead_letters() == []


@EACH
def test_a_dead_letter_is_replayed_whatever_its_headers_are(odd):
    job_id = str(uuid.uuid4())
    told = [("shifter-origin-topic", LANE.encode()), ("shifter-attempts", b"1")]
    headers = [envelope(job_id), *odd, *told]
    letter = Letter(Delivery("shop.default.dlt", None, b"{}", headers, 0, 0, 0), 0)
    road = ReplayRoutes(
        run="r", namespace="shop", source="shop.default.dlt", lanes=frozenset({LANE})
    )

    fate = decide(letter, ReplayPolicy(), road, now_ms=1)

    assert isinstance(fate, Send)
    read = read_headers(fate.record.headers)
    assert (read.envelope.replay_of, read.dropped) == (job_id, 0)


async def test_what_fits_travels_along_and_what_does_not_is_counted(caplog):
    world, job_id = World(), str(uuid.uuid4())

    @world.app.job(name="job", attempts=1)
    async def handler() -> None:
        raise OSError("once")

    @world.app.job
    async def other() -> None: ...

    await world.open()
    keep: Headers = [("größe", b"7"), ("x", None), ("x", b"\xff")]
    drop: Headers = [("y", b"v" * 5_000), ("a\nb", b""), ("", b"")]
    headers = [envelope(job_id), *keep, *drop]
    record = Record(LANE, b"{}", headers)

    with caplog.at_level(logging.WARNING, "shifter"):
        await world.lane_log.append([record], timeout_s=30)
        async with world.working():
            await world.ended(job_id, JobState.DEAD)

    counted = world.metrics.snapshot()["shifter_headers_dropped_total"]
    assert counted == {("default",): 3}
    [line] = [x for x in caplog.messages if x.startswith("job.headers_dropped")]
    assert "count=3" in line
    # A dead letter is evidence: it keeps what there is room for, as it was.
    [letter] = await world.dead_letters()
    assert [header for header in letter.headers if header in headers] == headers


async def test_a_flood_of_odd_headers_is_some_lines_and_a_count(caplog):
    world, runs = World(), []

    @world.app.job(name="job")
    async def handler() -> None:
        runs.append(1)

    await world.open()
    records = [
        Record(LANE, b"{}", [envelope(str(uuid.uuid4())), ("", b"")])
        for _ in range(500)
    ]

    with caplog.at_level(logging.WARNING, "shifter"):
        await world.lane_log.append(records, timeout_s=30)
        async with world.working() as drain:
            await world.until(lambda: len(runs) == 500)
        drain.observer.close()

    said = [x for x in caplog.messages if "headers_dropped" in x]
    assert len(said) == 21
    assert said[-1] == (
        f"lines.left_out worker=w1 of=job.headers_dropped count=480 lane={LANE}"
    )
    assert world.metrics.snapshot()["shifter_headers_dropped_total"] == {
        ("default",): 500
    }


@pytest.mark.parametrize("is_valid", [True, RuntimeError("no tracer")])
def test_a_tracer_that_fails_stops_no_submission(monkeypatch, is_valid):
    class Context:
        trace_id, span_id, trace_flags = 1 << 200, "x", None

        @property
        def is_valid(self) -> bool:
            if isinstance(is_valid, Exception):
                raise is_valid
            return is_valid

    class Tracing:
        @staticmethod
        def get_current_span():
            return type("Span", (), {"get_span_context": lambda _: Context()})()

    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Tracing)

    assert request_scope.current_traceparent() is None


def test_odd_headers_take_the_whole_road(fleet):  # noqa: F811
    """Through the real log, a delay, retries on the delay ladder, and a replay."""
    topic = Lane(fleet.namespace, "default", Priority.NORMAL).name
    odd = [
        header
        for name, some in ODD.items()
        if "too long" not in name and "10,000" not in name and "our name" not in name
        for header in some
    ]
    odd += [(f"x-{number}", b"v" * 100) for number in range(300)]
    odd += [("traceparent", TRACE.encode()), ("traceparent", OTHER.encode())]
    flaky, hopeless = str(uuid.uuid4()), str(uuid.uuid4())
    head = envelope(flaky, type="flaky")
    fleet.put(topic, b'{"number": 1}', [head, *odd])
    head = envelope(hopeless, type="hopeless")
    fleet.put(topic, b'{"reason": "none"}', [*odd, head])

    fleet.run("work", "tests.acceptance.jobs:app", "--burst")
    ran = [line[2] for line in fleet.effects("flaky")]
    replay = fleet.json(
        *("dlt", "replay", "default", "--yes", "--reason", "again"),
        *("--namespace", fleet.namespace),
    )
    fleet.run("work", "tests.acceptance.jobs:app", "--burst")

    assert ran == ["1", "2", "3"]
    assert replay["counts"] == {"sent": 1}
    listed = fleet.json("dlt", "list", "default", "--namespace", fleet.namespace)
    assert {group["reason"] for group in listed} == {"dead_lettered_by_handler"}
