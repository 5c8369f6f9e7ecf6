"""When a number of workers may fall."""

from __future__ import annotations

from shifter.policy.scaling.hold import HoldState, hold, starting_with
from shifter.policy.scaling.settings import ScalingPolicy

POLICY = ScalingPolicy(stabilisation_ms=10_000, tolerance=0.1)


def held(*needed, state=None, policy=POLICY):
    """The answers to (second, workers), one after the other."""
    state, answers = HoldState() if state is None else state, []
    for second, workers in needed:
        state, kept = hold(policy, state, workers, now_ms=second * 1_000)
        answers.append(kept)
    return answers


def test_a_number_rises_at_once():
    assert held((0, 1), (1, 20), (2, 21)) == [1, 20, 21]


def test_a_number_falls_to_the_largest_of_the_window():
    assert held((0, 20), (4, 8), (5, 4), (9, 1), (10, 1), (14, 1), (15, 1)) == [
        *(20, 20, 20, 20, 8, 4, 1),
    ]


def test_a_number_does_not_fall_by_a_little():
    assert held((0, 20), (10, 18), (50, 18), (70, 17)) == [20, 20, 20, 17]


def test_the_last_worker_goes_too():
    assert held((0, 1), (10, 0)) == [1, 0]


def test_without_a_window_a_number_falls_at_once():
    policy = ScalingPolicy(stabilisation_ms=0)

    assert held((0, 20), (1, 4), (2, 0), policy=policy) == [20, 4, 0]


def test_a_fleet_that_is_there_at_the_start_stays_for_a_window():
    assert held((1, 0), (9, 0), (10, 0), state=starting_with(7, now_ms=0)) == [7, 7, 0]


def test_a_clock_that_goes_back_stands_still():
    assert held((100, 20), (0, 1), (9, 1), (10, 1)) == [20, 20, 20, 1]


def test_the_state_holds_no_more_than_it_needs():
    state = HoldState()
    for second in range(1_000):
        state, _ = hold(POLICY, state, 1_000 - second, now_ms=second * 1_000)
    assert len(state.needed) <= 11
