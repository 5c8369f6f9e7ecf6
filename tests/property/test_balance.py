"""Choice, ejection and the list of endpoints, in any order of calls and ends."""

from __future__ import annotations

import collections
import math
import random

from hypothesis import given, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from shifter.balance import Endpoint
from shifter.policy.balance.ejection import EjectionPolicy
from shifter.policy.balance.group import Group
from shifter.policy.balance.latency import PeakEwma, Percentiles, Share
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.balance.policy import BalancePolicy, Choice
from shifter.policy.balance.ring import HashRing
from shifter.policy.balance.turns import Turns

draws = st.floats(0, 1, exclude_max=True)
counts = st.integers(1, 40)
choices = st.sampled_from(Choice)


def endpoints(count, **options):
    return [Endpoint(f"h{number}:1", **options) for number in range(count)]


def group_of(count, **options):
    group = Group(BalancePolicy(**options))
    group.update(endpoints(count), 0.0)
    return group


@given(choices, counts, draws, st.text(), st.sets(st.integers(0, 39)))
def test_a_retry_goes_to_an_endpoint_that_was_not_tried_if_there_is_one(
    choice, count, u, key, tried
):
    group = group_of(count, choice=choice)
    urls = {f"http://h{number}:1" for number in tried}

    chosen = group.choose(1.0, u, key=key, tried=urls)

    assert chosen is not None
    assert chosen.endpoint.url not in urls or urls >= set(group.states)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1), draws)
def test_a_priority_is_called_where_too_few_of_the_smaller_ones_are_left(each, u):
    group = Group(BalancePolicy())
    listed = [
        Endpoint(f"h{number}:1", priority=priority)
        for number, (priority, _) in enumerate(each)
    ]
    group.update(listed, 0.0)
    for state, (_, is_out) in zip(group.states.values(), each, strict=True):
        if is_out:
            group.pause(state, 0.0, 60.0)

    chosen = group.choose(1.0, u)

    below = [out for priority, out in each if priority < chosen.endpoint.priority]
    assert sum(not out for out in below) < max(1, len(below) / 2) or not below
    if not all(out for _, out in each):
        left = sum(not out for _, out in each)
        assert not chosen.health.out_until or left < len(each) / 2


@given(st.integers(1, 40), draws, st.data())
def test_the_worst_is_never_chosen_over_another_that_was_drawn(count, u, data):
    group, loads = group_of(count), []
    for state in group.states.values():
        state.inflight = data.draw(st.integers(0, 9))
        state.latency.observe(0.0, data.draw(st.floats(0.001, 10)))
        loads.append(state.load(20.0))

    chosen = group.choose(20.0, u)

    # The first call finds no usual load: two or four are drawn, with replacement.
    drawn, rest = [], u
    for _ in range(4):
        rest *= count
        drawn.append(loads[int(rest)])
        rest %= 1
    assert chosen.load(20.0) == (min(loads) if count <= 4 else min(drawn))


@given(st.integers(5, 40), st.integers(0, 2**32))
def test_the_worst_of_many_is_chosen_only_when_it_is_drawn_alone(count, seed):
    """Two draws must both hit it, which a uniform choice needs once."""
    rng, group = random.Random(seed), group_of(count)
    for number, state in enumerate(group.states.values()):
        state.latency.observe(0.0, 5.0 if number == 0 else 0.01)
    for _ in range(64):
        group.choose(20.0, rng.random())

    worst = sum(
        group.choose(20.0, rng.random()).endpoint.url == "http://h0:1"
        for _ in range(1_000)
    )

    # Four draws of one in five at least: 1.6 in a thousand are expected.
    assert worst <= 20


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=10))
def test_turns_are_shared_by_weight(weights):
    group = Group(BalancePolicy(choice="round_robin", slow_start_ms=0))
    group.update([Endpoint(f"h{n}:1", weight=w) for n, w in enumerate(weights)], 0.0)

    taken = collections.Counter(
        group.choose(1.0, 0.0).endpoint.url for _ in range(1_000)
    )

    for number, weight in enumerate(weights):
        share = 1_000 * weight / sum(weights)
        assert abs(taken[f"http://h{number}:1"] - share) <= len(weights) + 1


@given(st.lists(st.integers(0, 9), max_size=50))
def test_an_endpoint_that_missed_turns_does_not_catch_up(missing):
    group = Group(BalancePolicy(choice="round_robin", slow_start_ms=0))
    group.update(endpoints(10), 0.0)
    states, turns = list(group.states.values()), Turns()
    for absent in missing:
        turns.restart([state for n, state in enumerate(states) if n != absent])
        for _ in range(20):
            turns.take(1.0, ())
    turns.restart(states)

    taken = collections.Counter(turns.take(1.0, ()).endpoint.url for _ in range(100))

    assert max(taken.values()) <= 12


@given(st.lists(st.text(), unique=True, min_size=1, max_size=30), counts)
def test_equal_keys_lead_to_the_same_endpoint_while_there_is_room(keys, count):
    group, again = (group_of(count, choice="hash") for _ in range(2))
    for key in keys:
        first, second = (one.choose(1.0, 0.5, key=key) for one in (group, again))
        assert first.endpoint == second.endpoint


@given(st.integers(2, 20), st.lists(st.text(max_size=3), max_size=100))
def test_a_key_never_fills_an_endpoint_beyond_the_bound(count, keys):
    """Source: Mirrokni et al.; each has at most ceil(c x mean) calls under way."""
    group = group_of(count, choice="hash", hash_load=1.25)
    for number, key in enumerate(keys, 1):
        group.begin(group.choose(1.0, 0.5, key=key), 1.0)
        most = max(state.inflight for state in group.states.values())
        assert most <= math.ceil(1.25 * number / count)


@given(st.integers(2, 20), st.integers(0, 19))
def test_an_endpoint_that_leaves_moves_only_its_own_keys(count, gone):
    listed = [(f"http://h{number}:1", 1.0) for number in range(count)]
    left = f"http://h{gone % count}:1"
    before = HashRing(listed)
    after = HashRing([one for one in listed if one[0] != left])
    for number in range(100):
        first = next(before.walk(f"key {number}"))
        if first != left:
            assert next(after.walk(f"key {number}")) == first


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), min_size=1))
def test_the_average_stays_between_0_and_the_peak_and_jumps_to_it(observed):
    latency, now, peak = PeakEwma(10.0), 0.0, 0.0
    for passed, took_s in observed:
        now, peak = now + passed, max(peak, took_s)
        latency.observe(now, took_s)
        assert took_s <= latency.cost(now) <= peak
        assert latency.cost(now + 5) <= latency.cost(now)


@given(st.lists(st.floats(0, 60), min_size=20, max_size=600), st.floats(0.01, 1))
def test_a_percentile_is_one_of_the_last_durations_and_not_below_the_share(took, share):
    found = Percentiles()
    for seconds in took:
        found.observe(seconds)
    kept = took[-256:]

    value = found.at(share)

    assert value in kept
    assert sum(one <= value for one in kept) >= share * len(kept) - 1e-6


@given(st.floats(0.01, 1), st.lists(st.booleans(), max_size=300))
def test_extra_calls_stay_within_their_share(share, wanted):
    budget, spent = Share(share), 0
    for calls, is_wanted in enumerate(wanted, 1):
        budget.earn()
        spent += is_wanted and budget.spend()
        assert spent <= calls * share + 1e-6


class Calls(RuleBasedStateMachine):
    """Calls that begin, succeed, fail, are cut or throttled, while the list changes."""

    def __init__(self):
        super().__init__()
        self.now, self.under_way = 0.0, []

    @initialize(
        choice=choices,
        count=st.integers(1, 8),
        failures=st.integers(1, 5),
        share=st.floats(0.1, 1),
        zone=st.sampled_from([None, "a"]),
    )
    def begin(self, choice, count, failures, share, zone):
        ejection = EjectionPolicy(
            consecutive_failures=failures, most_share=share, min_calls=3
        )
        policy = BalancePolicy(choice=choice, ejection=ejection, zone=zone)
        self.ejection, self.group = ejection, Group(policy)
        self.replace(count, 0)

    @rule(count=st.integers(1, 8), first=st.integers(0, 4))
    def replace(self, count, first):
        listed = [
            Endpoint(f"h{n}:1", zone="ab"[n % 2], weight=1 + n % 3)
            for n in range(first, first + count)
        ]
        known = {
            url: state
            for url, state in self.group.states.items()
            if url in {one.url for one in listed}
        }
        self.group.update(listed, self.now)
        # What is known of those that stay is kept.
        assert all(self.group.states[url] is state for url, state in known.items())

    @rule(u=draws, key=st.none() | st.text(max_size=2))
    def call(self, u, key):
        chosen = self.group.choose(self.now, u, key=key)
        assert chosen is not None
        assert self.group.states[chosen.endpoint.url] is chosen
        self.group.begin(chosen, self.now)
        self.under_way.append(chosen)

    @precondition(lambda self: self.under_way)
    @rule(failed=st.sampled_from([True, False, None]), took_s=st.floats(0, 5))
    def end(self, failed, took_s):
        state = self.under_way.pop(0)
        self.group.ended(state, self.now, took_s, failed=failed)

    @precondition(lambda self: self.under_way)
    @rule(seconds=st.floats(0.1, 60))
    def throttle(self, seconds):
        state = self.under_way.pop(0)
        self.group.ended(state, self.now, 0.1, failed=None)
        self.group.pause(state, self.now, seconds)

    @rule(
        number=st.integers(0, 12),
        kind=st.sampled_from(MarkKind),
        seconds=st.none() | st.floats(0, 100) | st.just(math.inf),
    )
    def mark(self, number, kind, seconds):
        """The fleet, health checks or an operator say something of an endpoint."""
        state = self.group.states.get(f"http://h{number}:1")
        if state is not None:
            mark = None if seconds is None else Mark(self.now + seconds, "said")
            self.group.mark(state, kind, mark, self.now)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def calls_under_way_are_counted(self):
        if hasattr(self, "group"):
            counted = collections.Counter(map(id, self.under_way))
            for state in self.group.states.values():
                assert state.inflight == counted[id(state)]

    @invariant()
    def one_is_always_left(self):
        if hasattr(self, "group"):
            assert self.group.choose(self.now, 0.5) is not None

    @invariant()
    def the_fleet_and_checks_eject_no_more_than_the_share_and_leave_one(self):
        if not hasattr(self, "group"):
            return
        self.group.choose(self.now, 0.5)
        states = self.group.states.values()
        present = [one for one in states if not one.is_drained]
        own = sum(one.health.is_ejected for one in present)
        marked = sum(one.is_ejected and not one.health.is_ejected for one in present)
        if marked:
            most = self.ejection.most_ejected(len(present))
            assert own + marked <= most < len(present)

    @invariant()
    def an_endpoint_that_is_out_is_called_only_in_a_panic(self):
        if not hasattr(self, "group"):
            return
        chosen = self.group.choose(self.now, 0.99)
        states = list(self.group.states.values())
        present = [one for one in states if not one.is_drained]
        if chosen.is_drained:
            assert not present
        elif chosen.is_out:
            left = sum(not one.is_out for one in present)
            assert left < max(1, self.ejection.panic_share * len(present))

    @invariant()
    def no_mark_outlives_its_end(self):
        if hasattr(self, "group"):
            self.group.choose(self.now, 0.5)
            for state in self.group.states.values():
                assert all(mark.until > self.now for mark in state.marks.values())


TestCalls = Calls.TestCase
