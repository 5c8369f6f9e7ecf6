"""Sharing slots between lanes: safety in every batch, bounds over every window."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from shifter.model.lane import Priority
from shifter.policy.schedule.lane_choice import (
    LaneChoicePolicy,
    LaneChoiceState,
    choose,
)

SHARED = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
QUEUES = 4
LANES = {
    f"{priority.lower()}-{queue}": priority
    for priority in Priority
    for queue in range(QUEUES)
}
FRESH = LaneChoiceState()

ages = st.integers(0, 200_000)
weights = st.lists(st.integers(1, 100), min_size=3, max_size=3).map(sorted)
policies = st.builds(
    lambda found, ageing_ms: LaneChoicePolicy(
        low_weight=found[0],
        normal_weight=found[1],
        high_weight=found[2],
        ageing_ms=ageing_ms,
    ),
    weights,
    st.integers(1, 50_000),
)
states = st.builds(
    LaneChoiceState,
    priorities=st.dictionaries(st.sampled_from(SHARED), st.integers(1, 65_536)),
    lanes=st.dictionaries(
        st.sampled_from(list(Priority)),
        st.dictionaries(st.sampled_from(list(LANES)), st.integers(1, 3)),
    ),
)
backlogs = st.dictionaries(
    st.sampled_from(list(LANES)),
    st.tuples(st.integers(0, 4) | st.integers(0, 3_000), ages),
).map(lambda found: {name: (LANES[name], *rest) for name, rest in found.items()})


def is_relative_to_the_least_ahead(
    state: LaneChoiceState, waiting: Mapping[str, int], picks: list[tuple[str, int]]
) -> None:
    """Who waits and is least ahead is not ahead at all: so a newcomer starts level."""
    left = [name for name, count in waiting.items() if count]
    if any(LANES[name] in SHARED for name in left):
        assert any(
            LANES[name] in SHARED and LANES[name] not in state.priorities
            for name in left
        )
    for priority in {LANES[name] for name, _ in picks}:
        mine = [name for name in left if LANES[name] is priority]
        ahead = state.lanes.get(priority, {})
        assert not mine or any(name not in ahead for name in mine)


def fits(
    backlog: Mapping[str, tuple[Priority, int, int]],
    picks: list[tuple[str, int]],
    slots: int,
) -> None:
    """Every batch, whatever came before."""
    waiting = {name: line[1] for name, line in backlog.items()}
    assert len(dict(picks)) == len(picks)
    assert all(0 < count <= waiting[name] for name, count in picks)
    assert sum(count for _, count in picks) == min(slots, sum(waiting.values()))
    ranks = [LANES[name].rank for name, _ in picks]
    assert ranks == sorted(ranks, reverse=True)
    if ranks and ranks[-1] < Priority.CRITICAL.rank:
        critical = {n: w for n, w in waiting.items() if LANES[n] is Priority.CRITICAL}
        assert all(dict(picks)[name] == w for name, w in critical.items() if w)


@given(policies, states, backlogs, st.integers(0, 1_000))
def test_every_batch_is_work_conserving_and_serves_critical_first(
    policy, state, backlog, slots
):
    after, picks = choose(policy, state, backlog, slots)

    fits(backlog, picks, slots)
    left = {n: w - dict(picks).get(n, 0) for n, (_, w, _) in backlog.items()}
    is_relative_to_the_least_ahead(after, left, picks)


@given(
    policies,
    states,
    backlogs,
    st.fixed_dictionaries(dict.fromkeys(Priority, ages)),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_a_batch_is_shared_like_its_parts_one_after_the_other(
    policy, state, backlog, age_ms, parts
):
    whole = {name: (p, waiting, age_ms[p]) for name, (p, waiting, _) in backlog.items()}

    _, at_once = choose(policy, state, whole, sum(parts))

    left, in_parts = whole, dict.fromkeys(whole, 0)
    for part in parts:
        state, picks = choose(policy, state, left, part)
        for name, count in picks:
            in_parts[name] += count
        left = {n: (p, w - dict(picks).get(n, 0), a) for n, (p, w, a) in left.items()}
    assert dict(at_once) == {name: count for name, count in in_parts.items() if count}


@given(
    policies,
    st.sets(st.sampled_from(SHARED), min_size=2),
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
)
def test_over_any_window_shares_follow_the_weights(policy, waiting, batches):
    """Fairness of start-time fair queueing: two that always wait differ, each counted
    in slots over its weight, by no more than one slot of each."""
    weight = {
        Priority.HIGH: policy.high_weight,
        Priority.NORMAL: policy.normal_weight,
        Priority.LOW: policy.low_weight,
    }
    backlog = {priority.value: (priority, 10**6, 0) for priority in waiting}
    state, totals = FRESH, [dict.fromkeys(waiting, 0)]

    for slots in batches:
        state, picks = choose(policy, state, backlog, slots)
        got = {p: totals[-1][p] + dict(picks).get(p.value, 0) for p in waiting}
        totals.append(got)

    rounding = policy.high_weight / 65_536  # costs are whole numbers
    for start, before in enumerate(totals):
        for after in totals[start:]:
            work = {p: (after[p] - before[p]) / weight[p] for p in waiting}
            for one in waiting:
                for other in waiting:
                    bound = 1 / weight[one] + 1 / weight[other]
                    error = rounding * (work[one] + work[other])
                    assert abs(work[one] - work[other]) <= bound + error + 1e-9


@given(policies, ages, ages, st.integers(0, 2_000))
def test_age_never_costs_slots_and_never_makes_low_better_than_high(
    policy, younger_ms, older_ms, slots
):
    younger_ms, older_ms = sorted((younger_ms, older_ms))

    def low_and_high(age_ms: int) -> tuple[int, int]:
        backlog = {
            "high": (Priority.HIGH, 10**6, 0),
            "low": (Priority.LOW, 10**6, age_ms),
        }
        picks = dict(choose(policy, FRESH, backlog, slots)[1])
        return picks.get("low", 0), picks.get("high", 0)

    assert low_and_high(younger_ms)[0] <= low_and_high(older_ms)[0]
    assert low_and_high(older_ms)[0] <= low_and_high(older_ms)[1]


class Draining(RuleBasedStateMachine):
    """Jobs arrive and age, slots become free, lanes empty and refill, in any order."""

    @initialize(policy=policies)
    def start(self, policy):
        self.policy, self.state = policy, FRESH
        self.waiting = dict.fromkeys(LANES, 0)
        self.passed_over = dict.fromkeys(SHARED, 0)
        self.lane_passed_over = dict.fromkeys(LANES, 0)

    @rule(name=st.sampled_from(list(LANES)), count=st.sampled_from([1, 1, 2, 60, 900]))
    def arrive(self, name, count):
        self.waiting[name] += count

    @rule(name=st.sampled_from(list(LANES)))
    def revoke(self, name):
        """A rebalance takes the lane's line away."""
        self.waiting[name] = 0
        self.forget()

    @precondition(lambda self: any(self.waiting.values()))
    @rule(
        slots=st.sampled_from([1, 1, 1, 2, 5, 30, 300]),
        batches=st.integers(1, 8),
        age_ms=st.fixed_dictionaries(dict.fromkeys(Priority, ages)),
    )
    def free_slots(self, slots, batches, age_ms):
        for _ in range(batches):
            backlog = {
                name: (LANES[name], count, age_ms[LANES[name]])
                for name, count in self.waiting.items()
                if count
            }
            self.state, picks = choose(self.policy, self.state, backlog, slots)
            fits(backlog, picks, slots)
            for name, count in picks:
                self.waiting[name] -= count
            is_relative_to_the_least_ahead(self.state, self.waiting, picks)
            self.count(dict(picks))

    def count(self, picks):
        """Slots in a row that went to others, at least."""
        got = dict.fromkeys(Priority, 0)
        for name, count in picks.items():
            got[LANES[name]] += count
        shared = sum(got[priority] for priority in SHARED)
        for priority in SHARED:
            self.passed_over[priority] += shared
            if got[priority]:
                self.passed_over[priority] = 0
        for name, priority in LANES.items():
            self.lane_passed_over[name] += got[priority]
            if name in picks:
                self.lane_passed_over[name] = 0
        self.forget()

    def forget(self):
        """Who does not wait is not passed over."""
        for name, priority in LANES.items():
            if not self.waiting[name]:
                self.lane_passed_over[name] = 0
            if not any(self.waiting[n] for n, p in LANES.items() if p is priority):
                self.passed_over[priority] = 0

    @invariant()
    def no_priority_below_critical_starves(self):
        own = {
            Priority.HIGH: self.policy.high_weight,
            Priority.NORMAL: self.policy.normal_weight,
            Priority.LOW: self.policy.low_weight,
        }
        for priority in SHARED:
            others = 2 * (1 + self.policy.high_weight / own[priority])
            assert self.passed_over[priority] <= others

    @invariant()
    def no_lane_of_a_priority_starves(self):
        assert max(self.lane_passed_over.values()) <= 2 * (QUEUES - 1)

    @invariant()
    def the_state_stays_small(self):
        most_ahead = -(-65_536 // self.policy.low_weight)
        assert all(0 < ahead <= most_ahead for ahead in self.state.priorities.values())
        for lanes in self.state.lanes.values():
            assert set(lanes.values()) <= {1}


Draining.TestCase.settings = settings(stateful_step_count=30)
TestNobodyStarves = Draining.TestCase
