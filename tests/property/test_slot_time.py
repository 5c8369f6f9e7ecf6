"""Slots are shared between the lanes of a priority by the time that lanes hold them.

Shares were counted in starts: of 20 slots, a queue with jobs of 10 s held 19 and left
one to a queue of the same weight with jobs of 0.1 s.
"""

from __future__ import annotations

import heapq
import itertools
import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

from shifter.model.lane import Lane, Priority
from shifter.policy.schedule.lane_choice import LaneChoicePolicy
from shifter.work.buffer import Buffer
from shifter.work.item import NOT_IN_LINE
from shifter.work.waiting_limits import WaitingLimits

WAITING = 50


class Worker:
    """Slots, lanes whose jobs take a given time, and a clock that jumps from end to end.

    Args:
        slots: How many.
        jobs_s: How long each job of a lane takes, by queue.
        weights: Of queues.
    """

    def __init__(self, slots, jobs_s, weights):
        self.lanes = [Lane("shop", queue, Priority.NORMAL) for queue in jobs_s]
        lanes = {lane.name: lane for lane in self.lanes}
        room = WaitingLimits(lanes, records=10**6, budget_bytes=10**12)
        named = {lane.name: weights.get(lane.queue, 1) for lane in self.lanes}
        self.buffer = Buffer(lanes, room, LaneChoicePolicy(lane_weights=named))
        self.draws = {lane.name: jobs_s[lane.queue] for lane in self.lanes}
        self.free, self.now = slots, 0.0
        self.ends, self.numbers = [], itertools.count()
        self.held_s = dict.fromkeys(lanes, 0.0)
        self.started = dict.fromkeys(lanes, 0)

    def put(self, topic, count):
        for _ in range(count):
            item = SimpleNamespace(
                delivery=SimpleNamespace(topic=topic),
                payload_bytes=0,
                envelope=SimpleNamespace(deadline_ms=None),
                key_id=None,
                place=None,
                ready_at=NOT_IN_LINE,
                read_ms=0,
                is_opportunistic=False,
                slot_since=None,
            )
            self.buffer.put(item, now=self.now)

    def run(self, until, *, full):
        """Keep some lanes full until an instant, and count how long lanes hold slots.

        Args:
            until: Seconds.
            full: Topics of the lanes.
        """
        while True:
            self.start(full)
            at = min(until, self.ends[0][0]) if self.ends else until
            for _, _, item in self.ends:
                self.held_s[item.delivery.topic] += at - self.now
            self.now = at
            if at >= until:
                return
            while self.ends and self.ends[0][0] <= self.now:
                _, _, item = heapq.heappop(self.ends)
                self.buffer.left(item, now=self.now)
                self.free += 1

    def start(self, full):
        waiting = self.buffer.backlog(now=self.now)
        for topic in full:
            here = waiting[topic].waiting if topic in waiting else 0
            self.put(topic, WAITING - here)
        if not self.free:
            return
        for item in self.buffer.choose(self.free, now=self.now):
            topic = item.delivery.topic
            self.free -= 1
            self.started[topic] += 1
            end = self.now + self.draws[topic]()
            heapq.heappush(self.ends, (end, next(self.numbers), item))

    def shares(self):
        total = sum(self.held_s.values())
        return [self.held_s[lane.name] / total for lane in self.lanes]


def always(seconds):
    return lambda: seconds


@pytest.mark.parametrize("slots", [2, 10])
@pytest.mark.parametrize("long_s", [1.0, 10.0])
@pytest.mark.parametrize("weight", [1, 3])
def test_long_and_short_jobs_hold_slots_by_their_weights(slots, long_s, weight):
    jobs_s = {"long": always(long_s), "short": always(0.1)}
    worker = Worker(slots, jobs_s, {"short": weight})

    worker.run(40 * long_s, full=[lane.name for lane in worker.lanes])

    assert worker.shares()[1] == pytest.approx(weight / (1 + weight), abs=0.06)


def test_one_slot_is_shared_in_time_as_well():
    worker = Worker(1, {"long": always(5.0), "short": always(0.1)}, {})

    worker.run(600, full=[lane.name for lane in worker.lanes])

    assert worker.shares()[1] == pytest.approx(0.5, abs=0.06)


def test_jobs_that_have_not_ended_yet_are_charged_as_they_run():
    worker = Worker(20, {"endless": always(10_000.0), "short": always(0.1)}, {})

    worker.run(60, full=[lane.name for lane in worker.lanes])

    # The first batch of slots is halved, and the one after it while both are level.
    assert worker.started["shop.endless.normal"] <= 15


@given(
    st.lists(
        st.tuples(st.floats(0.05, 3.0), st.floats(0.0, 0.9), st.integers(1, 4)),
        min_size=2,
        max_size=4,
    ),
    st.integers(8, 30),
    st.integers(0, 100),
)
@settings(max_examples=8)
def test_shares_follow_the_weights_whatever_jobs_take(lanes, slots, seed):
    draw = random.Random(seed)

    def between(mean_s, spread):
        return lambda: mean_s * draw.uniform(1 - spread, 1 + spread)

    jobs_s = {f"q{n}": between(mean, wide) for n, (mean, wide, _) in enumerate(lanes)}
    weights = {f"q{n}": weight for n, (_, _, weight) in enumerate(lanes)}
    worker = Worker(slots, jobs_s, weights)

    worker.run(90, full=[lane.name for lane in worker.lanes])

    total = sum(weights.values())
    for share, weight in zip(worker.shares(), weights.values(), strict=True):
        assert share == pytest.approx(weight / total, abs=0.08)


def test_a_lane_that_was_idle_starts_at_the_next_free_slot_and_saved_nothing_up():
    worker = Worker(4, {"busy": always(1.0), "idle": always(1.0)}, {})
    busy, idle = (lane.name for lane in worker.lanes)
    worker.run(100.5, full=[busy])

    worker.put(idle, 1)
    worker.run(101.5, full=[busy])
    assert worker.started[idle] == 1
    worker.run(200.5, full=[busy])
    before = worker.started[busy]
    worker.run(240.5, full=[busy, idle])

    # Half of 4 slots, however long the other lane had them alone.
    assert worker.started[busy] - before == pytest.approx(80, abs=6)


def test_a_lane_that_never_lets_jobs_wait_gains_nothing_by_it():
    worker = Worker(4, {"busy": always(0.5), "sly": always(20.0)}, {})
    busy, sly = (lane.name for lane in worker.lanes)
    for second in range(200):
        worker.put(sly, 1 - len(worker.buffer._lines[sly]))
        worker.run(second + 1.0, full=[busy])

    assert worker.shares()[0] > 0.4
