"""The stream of events of one process: bounded, lossy by choice, with a count."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from shifter.ports import Appended, Refused, Unknown
from shifter.telemetry.job_events import JobEventStream
from shifter.testing.clock import FakeClock
from shifter.wire.job_event import JobEvent, decode_events

MOST = 20_000


class Log:
    """Takes what it is given, or answers as it is told to."""

    def __init__(self) -> None:
        self.events = []
        self.answer = Appended()
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0

    async def append(self, records, *, timeout_s):
        self.calls += 1
        await self.gate.wait()
        if isinstance(self.answer, Appended):
            for record in records:
                self.events += decode_events(record.value).events
        return [self.answer] * len(records)


class Stream:
    def __init__(self) -> None:
        self.log, self.clock, self.counts = Log(), FakeClock(), Counter()
        self.stream = JobEventStream(
            self.log,
            self.clock,
            topic="shop.events",
            process="p",
            counted=lambda outcome, count: self.counts.update({outcome: count}),
        )

    def put(self, count: int) -> None:
        for number in range(count):
            self.stream.put(JobEvent(at_ms=number, event="failed"))


@pytest.fixture
def made():
    return Stream()


async def test_events_are_written_in_order_and_counted(made):
    made.put(2_500)
    await made.stream.write()

    assert [event.at_ms for event in made.log.events] == list(range(2_500))
    assert (made.counts, made.stream.queued) == ({"written": 2_500}, 0)


async def test_what_finds_no_room_is_lost_and_counted(made, caplog):
    made.put(MOST + 7)
    await made.stream.write()
    assert made.counts == {"written": MOST, "lost": 7}
    assert "events.lost" not in caplog.text, "a short command reports its own error"

    made.clock.advance(10)
    await made.stream.write()
    [line] = [r.getMessage() for r in caplog.records if "events.lost" in r.getMessage()]
    assert "count=7" in line
    assert "the queue was full" in line


@pytest.mark.parametrize(
    "answer", [Unknown("nobody answers"), Refused("refused_by_log", "no topic")]
)
async def test_a_batch_that_the_log_does_not_take_is_lost_and_the_next_one_waits(
    made, answer, caplog
):
    made.log.answer = answer
    made.put(10)
    await made.stream.write()
    assert (made.counts, made.log.calls) == ({"lost": 10}, 1)

    made.put(5)
    await made.stream.write()
    assert (made.log.calls, made.stream.queued) == (1, 5)

    made.log.answer = Appended()
    made.clock.advance(10)
    await made.stream.write()
    assert made.counts == {"lost": 10, "written": 5}
    # One line about what was lost, however often the log is tried.
    assert sum("events.lost" in r.getMessage() for r in caplog.records) == 1


async def test_the_end_does_not_wait_for_a_log_that_hangs(made):
    made.put(3)
    made.log.gate.clear()

    async with asyncio.timeout(20):
        await made.stream.close()

    assert (made.counts, made.stream.queued) == ({"lost": 3}, 0)


async def test_put_never_waits_for_an_append_that_hangs(made):
    made.log.gate.clear()
    made.put(1)
    writing = asyncio.ensure_future(made.stream.write())
    await asyncio.sleep(0)

    made.put(MOST + 1)

    assert made.stream.queued == MOST
    made.log.gate.set()
    await writing
    assert made.counts == {"written": MOST + 1, "lost": 1}
