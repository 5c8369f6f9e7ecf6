"""Order within a lane: earliest deadline first, no starving, a key's order kept."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shifter.model.lane import Lane, Priority
from shifter.work.buffer import Buffer
from shifter.work.deadline_queue import FREE_MS, DeadlineQueue
from shifter.work.item import NOT_IN_LINE
from shifter.work.waiting_limits import WaitingLimits

LANE = Lane("shop", "mail", Priority.LOW)
TIMES = st.integers(0, 3 * FREE_MS)


class FakeItem:
    """What a queue reads of an item."""

    def __init__(self, number, *, read_ms, deadline_ms=None, key=None, quiet=False):
        self.number, self.read_ms = number, read_ms
        self.envelope = SimpleNamespace(deadline_ms=deadline_ms)
        self.delivery = SimpleNamespace(topic=LANE.name)
        self.payload_bytes = number
        self.key_id = None if key is None else (LANE.name, key)
        self.place, self.ready_at, self.is_opportunistic = None, NOT_IN_LINE, quiet

    def __repr__(self):
        return f"{self.number}: {self.envelope.deadline_ms}"

    @property
    def due_ms(self):
        found = self.envelope.deadline_ms
        return self.read_ms + FREE_MS if found is None else found


ITEMS = st.lists(st.tuples(st.none() | TIMES, st.integers(0, FREE_MS)), max_size=40)


def room_of(lane):
    return WaitingLimits({lane.name: lane}, records=10, budget_bytes=1_000_000)


def queue_of(items):
    queue, now = DeadlineQueue(), 0
    made = []
    for number, (deadline_ms, passed_ms) in enumerate(items):
        now += passed_ms
        made.append(FakeItem(number, read_ms=now, deadline_ms=deadline_ms))
        queue.put(made[-1])
    return queue, made


@given(ITEMS)
def test_deadlines_go_earliest_first_and_the_others_in_the_order_they_came(items):
    queue, _ = queue_of(items)

    taken = queue.take(len(items))

    dated = [
        i.envelope.deadline_ms for i in taken if i.envelope.deadline_ms is not None
    ]
    free = [i.number for i in taken if i.envelope.deadline_ms is None]
    assert len(taken) == len(items)
    assert dated == sorted(dated)
    assert free == sorted(free)


@given(ITEMS)
def test_without_a_deadline_nothing_overtakes_that_is_due_ten_minutes_later(items):
    queue, _ = queue_of(items)

    taken = queue.take(len(items))

    for place, item in enumerate(taken):
        if item.envelope.deadline_ms is None:
            before = taken[:place]
            assert all(other.due_ms <= item.read_ms + FREE_MS for other in before)


@given(ITEMS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_what_was_taken_and_comes_back_in_any_order_gets_its_old_place(
    items, count, random
):
    queue, _ = queue_of(items)
    again, _ = queue_of(items)
    expected = [item.number for item in again.take(len(items))]

    taken = queue.take(count)
    random.shuffle(taken)
    for item in taken:
        queue.put(item)

    assert [item.number for item in queue.take(len(items))] == expected


@given(ITEMS, TIMES)
def test_the_imminent_are_those_before_the_instant_and_no_others(items, before_ms):
    queue, made = queue_of(items)

    taken = queue.take_due(len(items), before_ms)

    imminent = [
        item
        for item in made
        if item.envelope.deadline_ms is not None
        and item.envelope.deadline_ms < before_ms
    ]
    assert sorted(item.number for item in taken) == sorted(i.number for i in imminent)
    assert len(queue) == len(items) - len(taken)


def test_a_clock_that_goes_back_lets_no_item_overtake():
    queue = DeadlineQueue()
    queue.put(FakeItem(1, read_ms=5_000_000))
    queue.put(FakeItem(2, read_ms=1_000))

    taken = queue.take(2)
    for item in reversed(taken):
        queue.put(item)

    assert [item.number for item in taken] == [1, 2]
    assert [item.number for item in queue.take(2)] == [1, 2]


def test_two_of_one_deadline_that_come_to_one_line_are_distinguished():
    buffer = Buffer({LANE.name: LANE}, room_of(LANE))
    buffer.put(FakeItem(1, read_ms=0, deadline_ms=5, quiet=True), now=0.0)
    buffer.put(FakeItem(2, read_ms=0, deadline_ms=5), now=0.0)

    buffer.hurry(6)

    assert [item.number for item in buffer.take([(LANE.name, 5)])] == [1, 2]


class KeyedBuffer(RuleBasedStateMachine):
    """Puts, takes, returns and ends in any order: a key's items start in order."""

    @initialize()
    def start(self):
        self.room = room_of(LANE)
        self.buffer = Buffer({LANE.name: LANE}, self.room)
        self.count, self.running, self.started = 0, [], []

    @rule(
        key=st.sampled_from([None, "a", "b"]),
        deadline_ms=st.none() | TIMES,
        quiet=st.booleans(),
    )
    def put(self, key, deadline_ms, quiet):
        self.count += 1
        item = FakeItem(
            self.count,
            read_ms=self.count * 1_000,
            deadline_ms=deadline_ms,
            key=key,
            quiet=quiet,
        )
        self.buffer.put(item, now=float(self.count))

    @rule(count=st.integers(1, 5))
    def take(self, count):
        found = self.buffer.take([(LANE.name, count)])
        self.started += found
        self.running += found

    @rule(count=st.integers(1, 5))
    def take_quiet(self, count):
        found = self.buffer.take_quiet([(LANE.name, count)])
        self.started += found
        self.running += found

    @rule(before_ms=TIMES)
    def hurry(self, before_ms):
        self.buffer.hurry(before_ms)

    @rule(data=st.data())
    def come_back(self, data):
        if self.running:
            item = data.draw(st.sampled_from(self.running))
            self.running.remove(item)
            self.started.remove(item)
            self.buffer.put(item, now=float(self.count))

    @rule(data=st.data())
    def end(self, data):
        if self.running:
            item = data.draw(st.sampled_from(self.running))
            self.running.remove(item)
            self.buffer.release(item, now=float(self.count))

    @invariant()
    def keys_run_one_at_a_time_and_in_order(self):
        keyed = [item for item in self.running if item.key_id is not None]
        assert len({item.key_id for item in keyed}) == len(keyed)
        for key in ("a", "b"):
            numbers = [i.number for i in self.started if i.key_id == (LANE.name, key)]
            assert numbers == sorted(numbers)

    @invariant()
    def counts_are_right(self):
        waiting = self.buffer.backlog(now=0.0).get(LANE.name)
        quiet = self.buffer.quiet_backlog(now=0.0).get(LANE.name)
        assert self.buffer.ready == (0 if waiting is None else waiting.waiting)
        assert self.buffer.quiet == (0 if quiet is None else quiet.waiting)
        assert len(self.buffer) == self.buffer.ready + self.buffer.quiet

    @invariant()
    def nothing_waits_in_the_room_where_nothing_waits_in_line(self):
        parked = sum(map(len, self.buffer._parked.values()))
        waiting = len(self.buffer) + parked
        assert (self.room.bytes > 2_000 * waiting) if waiting else not self.room.bytes


TestKeyedBuffer = KeyedBuffer.TestCase
TestKeyedBuffer.settings = settings(max_examples=100, stateful_step_count=40)
