"""A handler sees the same, wherever it runs.

In a process of its own it had no deadline for what it submitted or deferred, was never
told of a cancel, saw the quality as ``FULL``, logged in another format and without a
trace; in the process that submitted it, it saw ``FULL`` while the fleet was ``MINIMAL``.
Right: `docs/reference/handlers.md` says what a handler sees, and it holds in every place.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shifter import Context, Degraded, Ran, Shifter
from shifter.config.load import load_settings
from shifter.jobs import request_scope
from shifter.model.answer import Quality
from shifter.telemetry import job_fields
from shifter.work.isolated_child import ContextFacts
from tests.acceptance.fleet import Fleet
from tests.regress import seen_jobs

TARGET = "tests.regress.seen_jobs:app"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOUR_MS = 3_600_000

pytestmark = pytest.mark.timeout(240)

IN_A_WORKER = (
    "in_loop",
    "in_thread",
    "in_coroutine",
    "in_process",
    "in_async_process",
    "apart",
    "fallback_in_loop",
    "fallback_in_thread",
)
BY_SUBMIT = (
    "in_loop",
    "in_thread",
    "in_coroutine",
    "fallback_in_loop",
    "fallback_in_thread",
)
BY_SUBMIT_SYNC = ("in_thread", "in_coroutine", "fallback_in_loop", "fallback_in_thread")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Runs on one file, whose quality a person has lowered."""
    folder: Path = tmp_path_factory.mktemp("seen")
    url = f"sqlite://{folder / 'fleet.db'}"
    fleet = Fleet(url, url, "seen", folder)
    fleet.environment |= {
        "SHIFTER_LEASE": "3s",
        "SHIFTER_CLAIM_TIMEOUT": "1s",
        "SHIFTER_LOG_DONE": "1",
        "SHIFTER_LOG_FORMAT": "json",
    }
    names = ("--namespace", "seen")
    fleet.run("quality", "set", "minimal", "--reason", "a test", *names)
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(scope="module")
def service(fleet):
    """The same jobs in this process, as a service has them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EFFECTS", str(fleet.effects_file))
    settings = load_settings("seen", environ=fleet.environment)
    app = Shifter("seen", settings=settings)
    jobs = seen_jobs.make(app)
    with app:
        until = time.monotonic() + 40
        while app.admission.quality(jobs["in_loop"].plan) is not Quality.MINIMAL:
            assert time.monotonic() < until
            time.sleep(0.05)
        yield jobs
    patch.undo()


@pytest.fixture(scope="module")
def from_workers(fleet, service):
    """What handlers saw in a worker, and what it logged."""
    options = {"deadline": "1h", "idempotency_key": "once"}
    ids, before_ms = {}, time.time_ns() // 1_000_000
    logged: list[dict] = []
    # The workers that die for one job take no other along.
    for places in (set(IN_A_WORKER) - {"apart"}, {"apart"}):
        for place in places:
            bound = service[place].options(key=f"key of {place}", **options)
            ids[place] = in_a_trace(bound.defer_sync).job_id
        done = fleet.run("work", TARGET, "--burst")
        lines = done.stderr.splitlines()
        logged += [json.loads(line) for line in lines if line[:1] == "{"]
    return seen(fleet), logged, ids, before_ms


def in_a_trace(call):
    with request_scope.within():
        request_scope.begin(request_scope.Ambient(traceparent=TRACE))
        return call()


def seen(fleet: Fleet) -> dict[str, dict]:
    lines = fleet.effects_file.read_text().splitlines()
    return {facts["place"]: facts for facts in map(json.loads, lines)}


@pytest.mark.parametrize("place", IN_A_WORKER)
def test_it_sees_its_attempt_in_a_worker(from_workers, place):
    reports, _, ids, before_ms = from_workers
    facts = reports[place]

    assert facts["job_id"] == ids[place]
    assert facts["job_type"] == place
    assert (facts["attempt"], facts["has_fence"]) == (1, True)
    assert (facts["key"], facts["idempotency_key"]) == (f"key of {place}", "once")
    assert facts["quality"] == "MINIMAL"
    assert facts["cancelled"] is False
    assert 500 < facts["remaining_s"] <= 600
    assert 0 <= facts["deadline_ms"] - HOUR_MS - before_ms < 60_000
    assert facts["traceparent"] == facts["current_traceparent"] == TRACE


@pytest.mark.parametrize("place", IN_A_WORKER)
def test_what_it_defers_in_a_worker_has_its_deadline_and_trace(from_workers, place):
    reports, *_ = from_workers
    outer, inner = reports[place], reports[f"inner of {place}"]

    assert abs(inner["deadline_ms"] - outer["deadline_ms"]) <= 1
    assert inner["traceparent"] == TRACE


@pytest.mark.parametrize("place", IN_A_WORKER)
def test_its_log_lines_are_formatted_and_know_the_job(from_workers, place):
    _, logged, ids, _ = from_workers
    by_event = {one["event"]: one for one in logged if one.get("place") == place}
    assert set(by_event) == {"seen", "seen by logging", "seen by structlog"}

    for line in by_event.values():
        assert line["level"] == "info"
        assert (line["job_id"], line["job"]) == (ids[place], place)
        assert (line["attempt"], line["trace_id"]) == (1, TRACE.split("-")[1])
        assert line["timestamp"]
    assert by_event["seen by logging"]["logger"] == "seen.jobs"
    assert by_event["seen by logging"]["job_id_"] == "mine"
    assert by_event["seen by structlog"]["job_id_"] == "mine"


@pytest.mark.parametrize("place", IN_A_WORKER)
def test_its_end_in_a_worker_is_one_line(from_workers, place):
    _, logged, ids, _ = from_workers
    [line] = (
        one
        for one in logged
        if one["event"] == "job.ended" and one["job_id"] == ids[place]
    )

    assert (line["outcome"], line["level"], line["job"]) == ("done", "info", place)
    assert (line["attempt"], line["trace_id"]) == (1, TRACE.split("-")[1])
    assert 0 < line["wait_s"] < 60
    assert 0 < line["duration_s"] < 60


@pytest.mark.parametrize("place", BY_SUBMIT)
async def test_it_sees_its_attempt_where_it_is_submitted(fleet, service, place):
    with request_scope.within():
        request_scope.begin(request_scope.Ambient(traceparent=TRACE))
        answer = await service[place].options(deadline="1h").submit()

    check_inline(fleet, place, answer)


@pytest.mark.parametrize("place", BY_SUBMIT_SYNC)
def test_it_sees_its_attempt_where_it_is_submitted_without_asyncio(
    fleet, service, place
):
    answer = in_a_trace(service[place].options(deadline="1h").submit_sync)

    check_inline(fleet, place, answer)


def check_inline(fleet: Fleet, place: str, answer) -> None:
    facts, now_ms = seen(fleet)[place], time.time_ns() // 1_000_000
    assert isinstance(answer, Degraded if "fallback" in place else Ran)
    assert facts["job_id"] == facts["idempotency_key"] == answer.job_id
    assert (facts["attempt"], facts["has_fence"], facts["key"]) == (1, False, None)
    assert facts["quality"] == "MINIMAL"
    assert 500 < facts["remaining_s"] <= 600
    assert abs(facts["deadline_ms"] - HOUR_MS - now_ms) < 60_000
    assert facts["traceparent"] == facts["current_traceparent"] == TRACE
    assert facts["log_fields"] == {
        "job_id": answer.job_id,
        "job": place,
        "attempt": 1,
        "trace_id": TRACE.split("-")[1],
    }
    assert job_fields() == {}


async def test_a_cancel_reaches_a_handler_in_a_process_of_its_own(fleet):
    settings = load_settings("seen", environ=fleet.environment)
    app = Shifter("seen", settings=settings)
    job = app.job(name="until_cancelled")(seen_jobs.until_cancelled.function)
    async with app:
        answer = await job.defer()
        worker = fleet.work(target=TARGET)
        fleet.until(lambda: "until_cancelled" in seen(fleet), timeout_s=60)

        await app.cancel(answer.job_id)

        async with asyncio.timeout(60):
            while (await app.status(answer.job_id)).state.value != "cancelled":
                await asyncio.sleep(0.05)
    worker.terminate()
    worker.wait(60)


def test_everything_that_a_context_is_made_of_crosses_to_a_process_of_its_own():
    # A child has the same dependencies; the name of the job's crosses as `holds`.
    named = {"clock", "dependency"}
    made_of = set(inspect.signature(Context).parameters) - named

    assert set(ContextFacts.__struct_fields__) == made_of
