"""Jobs that wait or run, read from their lanes and the state store."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog, MemoryLogAdmin
from shifter.model.claim import JobState, JobStatus
from shifter.model.lane import Lane, Priority
from shifter.ops import unsettled_jobs
from shifter.ops.unsettled_jobs import find_job, read_unsettled
from shifter.ports import Record, TopicSpec
from shifter.testing.clock import FakeClock
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers

NOW = 1_760_000_000_000
MAIL, PDF = (Lane("shop", queue, Priority.NORMAL).name for queue in ("mail", "pdf"))
OTHER = "club.mail.normal"


def job_id(number: int) -> str:
    stamp = f"{NOW:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7000-8000-{number:012x}"


class Lanes:
    """A log with lanes of two namespaces."""

    def __init__(self) -> None:
        self.log = MemoryLog(FakeClock(NOW))
        for lane in (MAIL, PDF, OTHER):
            self.log.create(TopicSpec(lane, 1, 86_400_000, 1_000_000))
        self.admin = MemoryLogAdmin(self.log)

    def put(self, lane: str, *numbers: int, due_ms: int | None = None) -> None:
        for number in numbers:
            envelope = EnvelopeV1(v=1, id=job_id(number), type="send", created_ms=NOW)
            headers = build_headers(envelope, content_type="application/json")
            self.put_raw(Record(lane, b"{}", headers, None, due_ms))

    def put_raw(self, record: Record) -> None:
        MemoryLaneLog(self.log).append_sync([record], timeout_s=1)


@pytest.fixture
def lanes():
    return Lanes()


async def runs(job: str) -> JobStatus | None:
    """The first job runs, the second has ended, of the others nothing is known."""
    if job == job_id(1):
        return JobStatus(job, JobState.RUNNING, 2, "\x1bw1", NOW + 9, NOW + 5)
    if job == job_id(2):
        return JobStatus(job, JobState.DONE, 1, None, NOW)
    return None


async def test_jobs_of_all_lanes_are_read_with_their_states(lanes):
    lanes.put(MAIL, 1, 2, 3)
    lanes.put(PDF, 4, due_ms=NOW + 60_000)
    lanes.put(OTHER, 5)
    lanes.put_raw(Record(PDF, b"", [("shifter", b"\xff")]))

    found = await read_unsettled(lanes.admin, "shop", None, runs)

    rows = {job.job_id: job for job in found.jobs}
    assert set(rows) == {job_id(number) for number in (1, 3, 4)}
    first = rows[job_id(1)]
    assert (first.state, first.attempt, first.at_ms) == (JobState.RUNNING, 2, NOW + 5)
    assert (first.worker, first.queue, first.job) == ("\\x1bw1", "mail", "send")
    assert (rows[job_id(3)].state, rows[job_id(3)].worker) == (JobState.WAITING, "")
    assert rows[job_id(4)].due_ms == NOW + 60_000
    assert found.left_out == 0


async def test_what_is_not_looked_at_is_counted(lanes, monkeypatch):
    monkeypatch.setattr(unsettled_jobs, "_MOST", 2)
    lanes.put(MAIL, *range(10))
    lanes.put(PDF, *range(20, 25))

    found = await read_unsettled(lanes.admin, "shop", None, None)
    monkeypatch.setattr(unsettled_jobs, "_ASKED_MOST", 3)
    fewer = await read_unsettled(lanes.admin, "shop", None, None)
    of_one = await read_unsettled(lanes.admin, "shop", "pdf", None)

    ids = [job_id(number) for number in (0, 20, 1, 21)]
    assert [job.job_id for job in found.jobs] == ids
    assert (found.left_out, fewer.left_out, of_one.left_out) == (11, 12, 3)
    assert [job.job_id for job in fewer.jobs] == ids[:3]


async def test_a_job_behind_many_others_is_found_by_the_time_of_its_id(
    lanes, monkeypatch
):
    monkeypatch.setattr(unsettled_jobs, "_MOST", 2)
    lanes.put(MAIL, *range(10))
    waits = JobStatus(job_id(9), JobState.WAITING, 0, None, NOW)

    found = await find_job(lanes.admin, "shop", job_id(9), waits)

    assert found is not None
    assert (found.job_id, found.queue, found.at_ms) == (job_id(9), "mail", NOW)
    # Its record may be settled: whether it waits is known of the first records alone.
    assert await find_job(lanes.admin, "shop", job_id(9), None) is None
    assert await find_job(lanes.admin, "shop", job_id(77), waits) is None


async def test_a_job_that_has_ended_waits_nowhere(lanes):
    lanes.put(MAIL, 1)
    ended = JobStatus(job_id(1), JobState.DONE, 1, None, NOW)

    assert await find_job(lanes.admin, "shop", job_id(1), ended) is None
    assert await find_job(lanes.admin, "shop", job_id(1), None) is not None
