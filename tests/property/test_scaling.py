"""What holds for the size of a worker group, whatever is measured, in virtual time."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st

from shifter.policy.scaling.hold import starting_with
from shifter.policy.scaling.load import Bottleneck, GroupLoad, LaneLoad
from shifter.policy.scaling.settings import ScalingPolicy, ScalingReason as Why
from shifter.policy.scaling.size import size_group

SECONDS = st.floats(0.001, 100_000)
WORKERS = st.integers(0, 200)
OPEN = Bottleneck("mailer", "circuit", is_whole=True)
# Groups of several lanes are large examples.
FEW = settings(max_examples=60)


@st.composite
def lane_loads(draw, bottleneck=None):
    ended_per_s = draw(st.just(0.0) | st.floats(0.1, 10_000))
    return LaneLoad(
        lane="shop.mail.low",
        due=draw(st.integers(0, 10**9)),
        running=draw(st.integers(0, 10_000)),
        delayed=draw(st.integers(0, 10**6)),
        ended_per_s=ended_per_s,
        busy=draw(st.floats(0.001, 5)) if ended_per_s else 0.0,
        arrivals_per_s=draw(st.none() | st.floats(0, 100_000)),
        forecast_per_s=draw(st.none() | st.floats(0, 100_000)),
        cost_s=draw(st.none() | st.floats(1e-6, 1_000)),
        deadline_s=draw(st.none() | st.floats(-1_000, 100_000)),
        opens_s=draw(st.just(0.0) | st.floats(0, 100)),
        is_low=draw(st.booleans()),
        starts_before_s=draw(st.none() | SECONDS),
        partitions=draw(st.none() | st.integers(1, 64)),
        bottleneck=bottleneck,
    )


@st.composite
def policies(draw):
    floor = draw(st.integers(0, 50))
    return ScalingPolicy(
        floor=floor,
        ceiling=draw(st.integers(max(1, floor), 500)),
        target_ms=draw(st.integers(1_000, 3_600_000)),
        stabilisation_ms=draw(st.integers(0, 600_000)),
        utilisation=draw(st.floats(0.1, 1)),
        tolerance=draw(st.floats(0, 0.9)),
    )


@st.composite
def groups(draw, bottleneck=None):
    lanes = draw(st.lists(lane_loads(bottleneck), max_size=3))
    # A lane cannot use more workers than there are.
    workers = draw(WORKERS)
    busy = sum(lane.busy for lane in lanes)
    if busy > workers:
        lanes = [lane._replace(busy=lane.busy * workers / busy) for lane in lanes]
    return GroupLoad("default", workers, draw(st.floats(0, 60)), lanes)


@FEW
@given(policies(), groups())
def test_a_number_keeps_to_floor_and_ceiling(policy, group):
    assert policy.floor <= size_group(policy, group).desired <= policy.ceiling


@FEW
@given(policies(), groups(), st.integers(0, 500))
def test_a_number_is_never_above_the_partitions(policy, group, last):
    partitions = [lane.partitions for lane in group.lanes]
    if not partitions or None in partitions:
        return
    held = starting_with(last, now_ms=0)
    most = max(sum(partitions), policy.floor, 1)

    assert size_group(policy, group).desired <= most
    assert size_group(policy, group, held, now_ms=1).desired <= most


@FEW
@given(policies(), groups(), st.integers(1, 10**9))
def test_more_backlog_never_needs_fewer_workers(policy, group, more):
    for place, lane in enumerate(group.lanes):
        lanes = list(group.lanes)
        lanes[place] = lane._replace(due=lane.due + more)
        before = size_group(policy, group)
        after = size_group(policy, group._replace(lanes=lanes))

        assert after.desired >= before.desired


@FEW
@given(policies(), lane_loads())
def test_low_work_never_needs_more_than_the_same_work_that_is_urgent(policy, lane):
    def sized(*, is_low):
        group = GroupLoad("default", 0, 10.0, [lane._replace(is_low=is_low)])
        return size_group(policy, group).desired

    assert sized(is_low=True) <= sized(is_low=False)


@FEW
@given(policies(), groups())
def test_nothing_is_scaled_to_zero_while_something_is_due(policy, group):
    is_due = any(lane.due and not lane.opens_s for lane in group.lanes)

    assert size_group(policy, group).desired >= is_due


@FEW
@given(policies(), groups())
def test_closed_and_delayed_work_asks_for_nothing(policy, group):
    lanes = [
        lane._replace(opens_s=max(lane.opens_s, 61.0 + group.lead_s))
        for lane in group.lanes
    ]
    size = size_group(policy, group._replace(lanes=lanes))

    assert size.desired == policy.floor
    assert size.due_backlog_s == 0


@FEW
@given(policies(), groups(OPEN))
def test_an_open_circuit_never_scales_out(policy, group):
    lanes = [lane._replace(opens_s=0.0) for lane in group.lanes]
    size = size_group(policy, group._replace(lanes=lanes))

    assert size.desired <= max(group.workers, policy.floor, 1)


@FEW
@given(policies(), groups())
def test_the_last_step_is_the_number_and_its_reason(policy, group):
    size = size_group(policy, group)

    assert size.steps[-1].workers == size.desired
    assert size.reason in (size.steps[-1].reason, Why.DEPENDENCY_LIMITED)


@FEW
@given(
    policies(),
    st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 10**7)), max_size=40),
)
def test_a_number_never_falls_within_the_window_of_having_risen(policy, readings):
    """The group follows each answer; times between readings are drawn."""
    now_ms, workers, rose_ms = 0, policy.floor, None
    held = starting_with(workers, now_ms=now_ms)
    for passed_ms, due in readings:
        now_ms += passed_ms
        lane = LaneLoad("shop.mail.high", due=due, arrivals_per_s=0.0, cost_s=0.01)
        group = GroupLoad("default", workers, 10.0, [lane])
        size = size_group(policy, group, held, now_ms=now_ms)
        if size.desired < workers and rose_ms is not None:
            assert now_ms - rose_ms >= policy.stabilisation_ms
        if size.desired > workers:
            rose_ms = now_ms
        workers, held = size.desired, size.held


@FEW
@given(st.integers(1, 60_000), st.floats(0.5, 200), st.floats(0.001, 0.1))
def test_a_backlog_is_done_in_about_its_target(due, per_s, cost_s):
    """A fleet that follows the answers, second by second, with instant starts."""
    policy, backlog, workers, held = ScalingPolicy(ceiling=10_000), float(due), 0, None
    for second in range(90):
        rate = min(backlog + per_s, workers / cost_s)
        lane = LaneLoad(
            "shop.mail.high",
            due=round(backlog),
            arrivals_per_s=per_s,
            ended_per_s=rate,
            busy=rate * cost_s,
            cost_s=cost_s,
        )
        group = GroupLoad("default", workers, 1.0, [lane])
        held = starting_with(0, now_ms=0) if held is None else held
        size = size_group(policy, group, held, now_ms=second * 1_000)
        workers, held = size.desired, size.held
        backlog = max(0.0, backlog + per_s - workers / cost_s)
    # It stands below what the workers do in a second.
    assert backlog <= workers / cost_s


@FEW
@given(policies(), groups())
def test_the_backlog_is_a_number_and_none_is_unknown_that_is_not_due(policy, group):
    size = size_group(policy, group)

    assert 0 <= size.due_backlog_s < math.inf
    if not size.is_measured:
        assert size.due_backlog_s >= policy.target_ms / 1_000
        assert any(demand.records for demand in size.demands)
