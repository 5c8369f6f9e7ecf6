"""What the pacer of one worker lets start, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from shifter.model.lane import Priority
from shifter.work.pacer import Pacer
from tests.unit.work.items import LANES, Stages

LOW, HIGH = "shop.default.low", "shop.default.high"
LEFT_MS = 1_800_000


class World:
    """A buffer with a pacer, and attempts that are counted by hand."""

    def __init__(self, **more) -> None:
        self.stages = Stages()
        self.clock, self.buffer = self.stages.clock, self.stages.state.buffer
        self.running: dict[str, int] = {}
        self.pacer = Pacer(
            clock=self.clock,
            buffer=self.buffer,
            lanes=LANES,
            running=lambda: self.running,
            opened=lambda: None,
            **more,
        )

    def put(self, count, *, topic=LOW, left_ms=LEFT_MS) -> None:
        deadline_ms = None if left_ms is None else self.clock.epoch_ms() + left_ms
        for _ in range(count):
            item = self.stages.item(deadline_ms=deadline_ms, topic=topic)
            self.buffer.put(item, now=self.clock.monotonic())

    def learn(self, took_s=60.0) -> None:
        self.pacer.ended(self.stages.item(topic=LOW), took_s)
        self.pacer.look()

    def start(self, slots=100) -> list:
        return self.buffer.choose(slots, now=self.clock.monotonic())


def test_nothing_is_paced_before_the_cost_of_a_job_is_known():
    world = World()
    world.put(50)
    world.pacer.look()

    assert (world.pacer.answer, world.buffer.ready) == (None, 50)


def test_low_jobs_start_at_their_pace():
    world = World()
    world.put(50)
    world.learn()

    # 50 minutes of work, planned within 0.35 of half an hour.
    slots = world.pacer.answer.slots
    assert 4 <= slots <= 6
    assert world.buffer.ready == slots
    assert len(world.start()) == slots
    assert world.buffer.ready == 0
    assert world.start() == []


def test_the_next_one_starts_when_one_has_ended():
    world = World()
    world.put(50)
    world.learn()
    started = world.start()
    item, world.running[LOW] = started[0], len(started)

    world.pacer.look()
    assert world.buffer.ready == 0
    world.running[LOW] = world.pacer.answer.slots - 1
    world.pacer.ended(item, 60.0)
    assert world.buffer.ready == 1


def test_urgent_jobs_are_never_paced():
    world = World()
    world.put(50)
    world.put(5, topic=HIGH)
    world.learn()
    slots = world.pacer.answer.slots

    assert world.buffer.ready == slots + 5
    started = [item.lane.priority for item in world.start()]
    assert started.count(Priority.HIGH) == 5


def test_jobs_without_a_deadline_are_not_paced():
    world = World()
    world.learn()
    world.put(50, left_ms=None)

    assert world.buffer.ready == 50
    world.pacer.look()
    assert world.buffer.ready == 50
    world.put(1)  # nor is the one that came among them
    world.pacer.look()
    assert world.buffer.ready == 51


def test_more_than_fits_into_memory_is_not_paced():
    world = World()
    world.put(2_000)
    world.learn()

    assert (world.pacer.answer, world.buffer.ready) == (None, 2_000)


def test_slots_used_elsewhere_count_as_urgent():
    used = [8.0]
    world = World(urgent=lambda: used[0])
    world.put(200)
    world.learn(took_s=30.0)
    steady = world.pacer.answer.slots

    used[0] = 0.0
    world.clock.advance(30)
    world.pacer.look()

    assert world.pacer.answer.slots >= steady + 5
    assert world.pacer.answer.reason == "quiet"


def test_in_the_dark_the_pace_is_told_and_nothing_waits():
    world = World(is_dark=True)
    world.put(50)
    world.learn()

    assert world.pacer.parts()["allowed"] == world.pacer.answer.slots < 10
    assert world.buffer.ready == 50


@pytest.mark.parametrize("topic", [LOW])
def test_a_lane_that_is_closed_leaves_the_pace_to_others(topic):
    world = World()
    world.put(50)
    world.learn()
    world.buffer.closed = frozenset([topic])
    world.pacer.look()

    assert world.buffer.ready == 0
    assert world.pacer.answer.reason == "idle"
