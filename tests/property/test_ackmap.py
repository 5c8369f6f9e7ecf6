from __future__ import annotations

import random
import string

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shifter.policy.delivery.ack_map import AckMap
from shifter.policy.delivery.ack_metadata import MAX_CHARS, binding, decode, encode

BOUND = binding("group", "topic", 0)


@st.composite
def ranges_from(draw, position):
    ranges, end = [], position - 1
    for gap, run in draw(
        st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=40)
    ):
        first = end + gap
        end = first + run
        ranges.append((first, end))
    return ranges


@given(st.data(), st.integers(0, 2**40))
def test_what_is_written_is_read(data, position):
    ranges = data.draw(ranges_from(position))

    text = encode(ranges, binding=BOUND, position=position)

    high = ranges[-1][1] if ranges else position
    assert decode(text, binding=BOUND, position=position, high=high) == ranges
    assert len(text) <= MAX_CHARS


@given(st.integers())
@settings(max_examples=10)
def test_a_text_never_holds_more_than_was_written(seed):
    offsets = random.Random(seed).sample(range(1, 60_001), 6_000)
    acks = AckMap(0)
    acks.deliver(range(60_001))
    acks.settle_many(offsets)

    text = encode(acks.ahead(), binding=BOUND, position=0)
    found = decode(text, binding=BOUND, position=0, high=60_001)

    said = {offset for first, end in found for offset in range(first, end)}
    assert len(text) <= MAX_CHARS
    assert said == {offset for offset in offsets if offset < 23_936}


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200).map(lambda raw: "s1" + raw.decode("latin-1")),
        st.from_regex(r"s1[A-Za-z0-9+/]{0,200}={0,2}", fullmatch=True),
    ),
    st.integers(-1, 2**63),
    st.integers(-1, 2**63),
)
def test_no_text_makes_the_reader_raise_or_say_anything(text, position, high):
    assert decode(text, binding=BOUND, position=position, high=high) == []


def test_the_unused_bits_of_the_last_character_are_noticed():
    text = encode([(10, 21)], binding=BOUND, position=10)

    at = text.index("=") - 1
    for other in set(string.ascii_letters) - set(text[at]):
        changed = text[:at] + other + text[at + 1 :]
        assert decode(changed, binding=BOUND, position=10, high=10**9) == []


@given(st.data())
def test_any_changed_character_is_noticed(data):
    ranges = data.draw(ranges_from(10).filter(bool))
    text = encode(ranges, binding=BOUND, position=10)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="latin-1").filter(lambda c: c != text[at]))

    changed = text[:at] + other + text[at + 1 :]

    assert decode(changed, binding=BOUND, position=10, high=10**9) == []


class AckMapMachine(RuleBasedStateMachine):
    """Records delivered, ended and committed in any order, owners that come and go.

    The log has gaps. ``ended`` is the truth over all owners; ``committed`` is what
    the group would start from again.
    """

    def __init__(self):
        super().__init__()
        self.log = []
        self.end = 0
        self.ended = set()
        self.committed = (0, "")
        self.acks = AckMap(0)
        self.open = set()
        self.last_frontier = 0

    @rule(gaps=st.lists(st.sampled_from([1, 1, 1, 1, 2, 7]), max_size=30))
    def append(self, gaps):
        for gap in gaps:
            self.log.append(self.end + gap - 1)
            self.end += gap

    @rule(gap=st.integers(0, 5))
    def append_only_a_gap(self, gap):
        self.end += gap

    @rule(count=st.integers(1, 30))
    def deliver(self, count):
        offsets = [o for o in self.log if o >= self.acks.position][:count]
        if not offsets:
            self.acks.reach(self.end)
            return
        fresh = set(self.acks.deliver(offsets))

        assert fresh <= set(offsets)
        assert set(offsets) - fresh <= self.ended
        self.open |= fresh

    @rule(data=st.data())
    def settle_some(self, data):
        if self.open:
            done = data.draw(st.sets(st.sampled_from(sorted(self.open))))
            self.acks.settle_many(done)
            self.ended |= done
            self.open -= done

    @rule(offsets=st.lists(st.integers(0, 200), max_size=5))
    def settle_what_is_not_open(self, offsets):
        self.acks.settle_many(set(offsets) - self.open)

    @rule()
    def commit(self):
        position = self.acks.frontier
        text = encode(self.acks.ahead(), binding=BOUND, position=position)
        assert position >= self.committed[0]
        self.committed = (position, text)

    @rule()
    def change_owner(self):
        self._start(self.committed[1])

    @rule(text=st.text(max_size=20))
    def change_owner_after_somebody_wrote_nonsense(self, text):
        self._start(text)
        self.committed = (self.committed[0], text)

    def _start(self, text):
        position = self.committed[0]
        done = decode(text, binding=BOUND, position=position, high=self.end)
        self.acks, self.open = AckMap(position, done), set()
        self.last_frontier = position

    @invariant()
    def everything_below_the_frontier_has_ended(self):
        frontier = self.acks.frontier
        assert all(o in self.ended for o in self.log if o < frontier)

    @invariant()
    def the_frontier_is_the_lowest_open_record(self):
        assert self.acks.frontier == min(self.open, default=self.acks.position)

    @invariant()
    def the_frontier_never_goes_back(self):
        assert self.acks.frontier >= self.last_frontier
        self.last_frontier = self.acks.frontier

    @invariant()
    def nothing_is_ahead_that_has_not_ended(self):
        ranges = self.acks.ahead()
        assert all(
            o in self.ended for o in self.log if any(f <= o < e for f, e in ranges)
        )
        met = [o for o in self.log if self.acks.frontier <= o < self.acks.position]
        assert {o for o in met if o not in self.open} == {
            o for o in met if any(f <= o < e for f, e in ranges)
        }

    def teardown(self):
        """However it went, settling all that comes brings the frontier to the end."""
        while self.acks.position < self.end:
            self.deliver(1_000)
        self.acks.settle_many(self.open)
        assert self.acks.frontier == self.acks.position >= self.end
        assert len(self.acks) == 0


TestAckMapMachine = AckMapMachine.TestCase
