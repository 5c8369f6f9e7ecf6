"""Histories of jobs and lists of them, read from events that anybody may have written."""

from __future__ import annotations

import msgspec
import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog, MemoryLogAdmin
from shifter.model.claim import JobState
from shifter.ops.event_scan import ScanLimit
from shifter.ops.job_history import JobFilter
from shifter.ops.job_reader import JobReader
from shifter.ports import Appended, Record, TopicSpec
from shifter.testing.clock import FakeClock
from shifter.wire.job_event import EventKind, JobEvent, encode_events

TOPIC = "shop.events"
NOW = 1_760_000_000_000
PARTITIONS = 3


def job_id(number: int) -> str:
    """Made just before `NOW`."""
    return f"{NOW:012x}"[:8] + "-" + f"{NOW:012x}"[8:] + f"-7000-8000-{number:012x}"


class Stream:
    """A topic of events."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.log = MemoryLog(self.clock)
        self.log.create(TopicSpec(TOPIC, PARTITIONS, 86_400_000, 1_000_000))
        self.admin = MemoryLogAdmin(self.log)

    def put(self, *events: JobEvent) -> None:
        for value, _ in encode_events("host-1", events):
            self.put_raw(value)

    def put_raw(self, value: bytes) -> None:
        lane_log = MemoryLaneLog(self.log)
        assert lane_log.append_sync([Record(TOPIC, value, [])], timeout_s=30) == [
            Appended()
        ]

    async def history(self, number: int, **options):
        reader = JobReader(self.admin, "shop", self.clock, **options)
        return await reader.history(job_id(number))

    async def jobs(self, **wanted):
        limit = wanted.pop("scan", ScanLimit())
        reader = JobReader(self.admin, "shop", self.clock, limit=limit)
        return await reader.jobs(JobFilter(**wanted))


def event(kind: EventKind, number: int = 1, at: int = 0, **facts) -> JobEvent:
    facts = {"job": "send", "queue": "mail", "created_ms": NOW, **facts}
    return JobEvent(at_ms=NOW + at, event=kind.value, id=job_id(number), **facts)


@pytest.fixture
def stream():
    return Stream()


def failed(number: int = 1, at: int = 0, **facts) -> JobEvent:
    facts = {"attempt": 1, "started_ms": NOW + at - 5, "ran_ms": 5, **facts}
    facts = {"error": "OSError", "message": "no", "until_ms": NOW + at + 100, **facts}
    return event(EventKind.FAILED, number, at, **facts)


async def test_events_of_any_process_and_order_are_told_in_the_order_of_time(stream):
    end = {"attempt": 2, "started_ms": NOW + 240, "waits": {"queue": 40}}
    stream.put(event(EventKind.DONE, at=250, **end))
    stream.put(event(EventKind.DONE, number=2), failed(at=100))

    found = await stream.history(1)

    assert [(e["at_ms"] - NOW, e["event"]) for e in found.story] == [
        (0, "submitted"),
        (95, "started"),
        (100, "failed"),
        (100, "retrying"),
        (240, "started"),
        (250, "done"),
    ]
    assert found.story[4]["waits_ms"] == {"retry": 100, "queue": 40}
    assert (found.state, found.attempt) == (JobState.DONE, 2)
    assert found.extent.is_complete


async def test_a_job_without_events_has_no_history(stream):
    stream.put(failed(number=2))

    found = await stream.history(1)

    assert (found.story, found.state) == ([], None)


HOSTILE = "\x1b[2J\u202e<script>alert(1)</script>\x00" + "A" * 1_000_000


async def test_hostile_texts_are_printable_and_bounded_in_history_and_list(stream):
    texts = dict.fromkeys(
        ("error", "message", "reason", "detail", "job", "queue", "fingerprint"), HOSTILE
    )
    raw = {
        "v": 1,
        "process": HOSTILE,
        "events": [
            {
                "at_ms": NOW,
                "id": job_id(1),
                "event": "failed",
                "started_ms": 1,
                "waits": {HOSTILE[:300]: 1},
                **{name: text[:400_000] for name, text in texts.items()},
            }
        ],
    }
    raw["process"] = HOSTILE[:1_000]
    value = msgspec.json.encode(raw)
    stream.log._specs[TOPIC] = TopicSpec(TOPIC, PARTITIONS, 1, 10_000_000)
    lane_log = MemoryLaneLog(stream.log, max_record_bytes=10_000_000)
    lane_log.append_sync([Record(TOPIC, value[:], [])], timeout_s=30)

    found, listed = await stream.history(1), await stream.jobs()

    story = found.story
    assert [entry["event"] for entry in story] == ["started", "failed"]
    shown = [
        text
        for entry in story
        for value in entry.values()
        for text in (value if isinstance(value, dict) else [str(value)])
    ]
    [row] = listed.jobs
    shown += [str(getattr(row, name)) for name in ("job", "error", "message", "queue")]
    assert all(text.isprintable() and len(text) <= 500 for text in shown)


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"[" * 50_000, b'{"v":9,"process":"p","events":[]}']
)
async def test_records_that_are_no_events_are_passed_over(stream, value):
    stream.put_raw(value + job_id(1).encode())
    stream.put(failed())
    stream.put_raw(value)

    found = await stream.history(1)

    assert len(found.story) == 4
    assert len((await stream.jobs()).jobs) == 1


async def test_jobs_are_listed_newest_first_and_by_every_filter(stream):
    stream.put(
        failed(1, at=10, message="the mailer is away", fingerprint="abc"),
        event(EventKind.DEAD_LETTERED, 1, at=20, fingerprint="abc"),
        failed(2, at=30, error="ValueError", queue="bulk"),
        event(EventKind.DONE, 3, at=5),
        JobEvent(at_ms=NOW, event="action", action="quality reduced", by="ann"),
        event(EventKind.DONE, 4, at=-7_200_000),
    )

    async def numbers(**wanted):
        found = await stream.jobs(**wanted)
        return [int(row.job_id[-12:], 16) for row in found.jobs]

    assert await numbers() == [2, 1, 3]
    assert await numbers(queue="bulk") == [2]
    assert await numbers(state=JobState.DEAD) == [1]
    assert await numbers(state=JobState.WAITING) == [2]
    assert await numbers(error="the MAILER") == [1]
    assert await numbers(error="oserror") == [1]
    assert await numbers(error="abc") == [1]
    assert await numbers(since_ms=3 * 3_600_000) == [2, 1, 3, 4]
    cut = await stream.jobs(limit=2)
    assert (len(cut.jobs), cut.is_cut) == (2, True)


async def test_a_scan_stops_at_its_limit_with_the_newest_and_says_so(stream):
    for number in range(30):
        stream.put(failed(number + 1, at=number))
    seen = []

    found = await stream.jobs(scan=ScanLimit(records=6, seconds=60))
    whole = await stream.history(30, on_progress=lambda *at: seen.append(at))

    assert {int(row.job_id[-12:], 16) for row in found.jobs} == set(range(25, 31))
    assert (found.extent, found.extent.is_complete) == ((6, 30), False)
    assert whole.extent.is_complete
    assert seen[-1] == (30, 30)


async def test_a_replay_is_told_once_and_with_its_run(stream):
    replay = {"replay_of": job_id(1), "created_ms": NOW}
    stream.put(
        event(EventKind.DEAD_LETTERED, 1, at=10),
        event(EventKind.REPLAYED, 2, at=20, run="run-7", by="ann", **replay),
        event(EventKind.DONE, 2, at=40, started_ms=NOW + 30, **replay),
        event(EventKind.DONE, 3, at=90, started_ms=NOW + 80, **replay),
    )

    found = await stream.history(1)

    told = [entry for entry in found.story if entry["event"] == "replayed"]
    assert [entry["as"] for entry in told] == [job_id(2), job_id(3)]
    assert told[0]["run"] == "run-7"
    # The event of the second run was lost: its job's own events tell of it.
    assert "run" not in told[1]
