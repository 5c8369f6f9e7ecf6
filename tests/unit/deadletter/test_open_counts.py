"""Open dead letters are counted anew only where something has changed."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.log import MemoryLog, MemoryLogAdmin
from shifter.deadletter.journal import Journal, RunBegun, RunStep
from shifter.deadletter.open_counts import OpenCounts
from shifter.ports import Record, TopicSpec
from shifter.testing import FakeClock

TOPICS = ["shop.mail.dlt", "shop.orders.dlt", "shop.paper.dlt"]


class Admin(MemoryLogAdmin):
    """Notes which topics are read."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.read: list[str] = []

    def scan(self, topic, spans=None):
        self.read.append(topic)
        return super().scan(topic, spans)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(FakeClock())
    for name in (*TOPICS, "shop.replays"):
        log.create(TopicSpec(name, 1, 86_400_000, 1_000_000))
    return log


def fill(log: MemoryLog, topic: str, count: int) -> None:
    log.append([Record(topic, b"{}", []) for _ in range(count)], 10**6)


async def test_only_topics_that_have_changed_are_read_again(log):
    admin, counts = Admin(log), OpenCounts()
    fill(log, TOPICS[0], 2)
    fill(log, TOPICS[1], 3)

    first = await counts.count(admin, TOPICS)
    assert first == dict(zip(TOPICS, (2, 3, 0), strict=True))
    assert admin.read == TOPICS[:2]

    assert await counts.count(admin, TOPICS) == first
    assert admin.read == TOPICS[:2]

    fill(log, TOPICS[1], 1)
    assert (await counts.count(admin, TOPICS))[TOPICS[1]] == 4
    assert admin.read == [*TOPICS[:2], TOPICS[1]]


async def test_what_a_run_handled_is_counted_no_more(log):
    admin, counts = Admin(log), OpenCounts()
    journal = Journal(admin, "shop")
    fill(log, TOPICS[0], 5)
    assert (await counts.count(admin, TOPICS))[TOPICS[0]] == 5

    facts = {"run": "r", "at_ms": 1, "action": "discard", "source": TOPICS[0]}
    who = {"reason": "fixed", "by": "ann@host", "topic_id": TOPICS[0]}
    begun = RunBegun(**facts, **who, spans={0: (0, 3)})
    step = RunStep(run="r", at_ms=1, upto={0: 3}, handled={0: [(0, 3)]})
    log.append([journal.record(begun), journal.record(step)], 10**6)
    await journal.load(counts.history)

    assert (await counts.count(admin, TOPICS))[TOPICS[0]] == 2


async def test_no_topic_has_no_count(log):
    assert await OpenCounts().count(Admin(log), []) == {}
