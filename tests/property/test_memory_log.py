"""The memory log through any order of appends, joins, crashes and work."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed, MemoryLaneLog, MemoryLogAdmin
from shifter.ports import Appended, Record
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"


class GroupMachine(RuleBasedStateMachine):
    """Appends, fetches, settlements, joins, crashes and time, in any order."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.log = MemoryLog(self.clock)
        self.log.create_lanes(LANE, partitions=3)
        self.writer = MemoryLaneLog(self.log)
        self.feeds, self.held = [], {}
        self.written, self.settled, self.due = 0, set(), {}

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @rule(key=st.sampled_from([None, b"a", b"b"]), delay_s=st.integers(0, 5))
    def append(self, key, delay_s):
        due_ms = self.clock.epoch_ms() + delay_s * 1_000
        record = Record(LANE, b"%d" % self.written, [], key, due_ms)
        assert self.writer.append_sync([record], timeout_s=1) == [Appended()]
        self.due[self.written] = due_ms
        self.written += 1

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @precondition(lambda self: len(self.feeds) < 4)
    @rule()
    def join(self):
        feed = MemoryLaneFeed(self.log, [LANE])
        self.run(feed.open())
        self.feeds.append(feed)
        self.held[feed] = []

    @precondition(lambda self: self.feeds)
    @rule(data=st.data())
    def crash(self, data):
        feed = data.draw(st.sampled_from(self.feeds))
        feed.crash()
        self.feeds.remove(feed)
        assert feed.begin(self.held.pop(feed)) == []

    @precondition(lambda self: self.feeds)
    @rule(data=st.data(), count=st.integers(0, 5))
    def fetch(self, data, count):
        feed = data.draw(st.sampled_from(self.feeds))
        found = self.run(feed.fetch(count, wait_s=0))
        assert len(found) <= count
        for delivery in found:
            number = int(delivery.value)
            assert number not in self.settled
            assert self.due[number] <= self.clock.epoch_ms()
        self.held[feed] += found

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def settle(self, data):
        feed = data.draw(st.sampled_from([f for f, held in self.held.items() if held]))
        delivery = data.draw(st.sampled_from(self.held[feed]))
        if feed.begin([delivery]):
            self.settled.add(int(delivery.value))
        self.run(feed.settle([delivery]))
        self.held[feed].remove(delivery)

    @invariant()
    def no_record_is_owned_twice(self):
        owned = [
            int(delivery.value)
            for feed, held in self.held.items()
            for delivery in feed.begin(held)
        ]
        assert len(owned) == len(set(owned))

    @invariant()
    def depth_is_what_was_written_and_not_settled(self):
        [depth] = self.run(MemoryLogAdmin(self.log).depths([LANE]))
        assert depth.waiting + depth.delayed == self.written - len(self.settled)

    def teardown(self):
        """Whatever happened, one worker gets all the rest, each key in order."""
        for feed in self.feeds:
            feed.crash()
        self.clock.advance(10)
        feed = MemoryLaneFeed(self.log, [LANE])
        self.run(feed.open())
        found = self.run(feed.fetch(10_000, wait_s=0))
        numbers = [int(delivery.value) for delivery in found]
        assert sorted(numbers) == sorted(set(range(self.written)) - self.settled)
        for key in (b"a", b"b"):
            offsets = [d.offset for d in found if d.key == key]
            assert offsets == sorted(offsets)
        self.run(feed.settle(found))
        assert feed.idle()
        self.loop.close()


TestGroups = GroupMachine.TestCase
