from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.schedule.lane_choice import (
    LaneChoicePolicy,
    LaneChoiceState,
    choose,
)

CRITICAL, HIGH, NORMAL, LOW = Priority
POLICY = LaneChoicePolicy(high_weight=8, normal_weight=4, low_weight=1, ageing_ms=100)
FRESH = LaneChoiceState()
PLENTY = 10_000


def lines(**waiting: int) -> dict[str, tuple[Priority, int, int]]:
    """A backlog of fresh lanes; ``high_a=3`` is three waiting in lane a of HIGH."""
    return {
        name: (Priority(name.split("_")[0].upper()), count, 0)
        for name, count in waiting.items()
    }


def one_by_one(
    backlog: Mapping[str, tuple[Priority, int, int]], slots: int
) -> list[str]:
    """Which lanes get that many single slots, while their lines never get shorter."""
    state, order = FRESH, []
    for _ in range(slots):
        state, [(name, count)] = choose(POLICY, state, backlog, 1)
        assert count == 1
        order.append(name)
    return order


def test_nothing_waits_and_nothing_is_chosen():
    assert choose(POLICY, FRESH, {}, 5) == (FRESH, [])
    assert choose(POLICY, FRESH, lines(high_a=0, critical_a=0), 5) == (FRESH, [])


def test_without_a_slot_nothing_is_chosen():
    assert choose(POLICY, FRESH, lines(critical_a=1, low_a=1), 0)[1] == []


def test_all_that_wait_start_when_there_is_room_the_critical_first():
    backlog = lines(low_a=1, normal_a=2, high_a=3, critical_a=4)

    _, picks = choose(POLICY, FRESH, backlog, 100)

    assert picks == [("critical_a", 4), ("high_a", 3), ("normal_a", 2), ("low_a", 1)]


def test_critical_work_takes_every_slot_it_needs():
    backlog = lines(low_a=5, high_a=5, critical_a=7)

    assert choose(POLICY, FRESH, backlog, 7)[1] == [("critical_a", 7)]
    assert choose(POLICY, FRESH, backlog, 8)[1] == [("critical_a", 7), ("high_a", 1)]


def test_below_critical_slots_are_shared_by_weight():
    backlog = lines(high_a=PLENTY, normal_a=PLENTY, low_a=PLENTY)

    _, picks = choose(POLICY, FRESH, backlog, 1_300)

    assert picks == [("high_a", 800), ("normal_a", 400), ("low_a", 100)]


def test_single_slots_add_up_to_the_same_shares():
    backlog = lines(high_a=PLENTY, normal_a=PLENTY, low_a=PLENTY)

    counts = Counter(one_by_one(backlog, 130))

    assert counts == {"high_a": 80, "normal_a": 40, "low_a": 10}


def test_what_a_short_line_leaves_goes_to_the_others_by_weight():
    backlog = lines(high_a=5, normal_a=PLENTY, low_a=PLENTY)

    _, picks = choose(POLICY, FRESH, backlog, 1_005)

    assert picks == [("high_a", 5), ("normal_a", 800), ("low_a", 200)]


def test_lanes_of_one_priority_share_evenly():
    backlog = lines(low_a=PLENTY, low_b=PLENTY, low_c=3)

    _, picks = choose(POLICY, FRESH, backlog, 103)

    assert picks == [("low_a", 50), ("low_b", 50), ("low_c", 3)]


def test_a_line_that_ran_out_gets_nothing_of_the_remainder():
    backlog = lines(low_a=2, low_b=PLENTY, low_c=PLENTY)

    _, picks = choose(POLICY, FRESH, backlog, 7)

    assert picks == [("low_a", 2), ("low_b", 3), ("low_c", 2)]


def test_critical_lanes_share_evenly_too():
    backlog = lines(critical_a=PLENTY, critical_b=PLENTY, high_a=1)

    assert choose(POLICY, FRESH, backlog, 6)[1] == [
        ("critical_a", 3),
        ("critical_b", 3),
    ]


def test_a_queue_gets_no_more_for_being_split_into_many():
    backlog = lines(high_a=PLENTY, high_b=PLENTY, high_c=PLENTY, low_a=PLENTY)

    _, picks = choose(POLICY, FRESH, backlog, 900)

    assert dict(picks)["low_a"] == 100


def test_single_slots_go_round_the_lanes_of_a_priority():
    backlog = lines(high_a=9, high_b=9, high_c=9)

    assert one_by_one(backlog, 6) == ["high_a", "high_b", "high_c"] * 2


def test_a_lane_that_empties_and_refills_does_not_go_first_again():
    """Otherwise a quick producer of single jobs would starve its neighbours."""
    backlog = lines(high_a=1, high_b=PLENTY)

    assert one_by_one(backlog, 4) == ["high_a", "high_b", "high_a", "high_b"]


def test_a_lane_away_for_one_turn_is_still_ahead_when_it_returns():
    state, _ = choose(POLICY, FRESH, lines(high_a=1, high_b=5), 1)
    away = lines(high_b=5, high_c=5)

    state, picks = choose(POLICY, state, away, 1)
    _, later = choose(POLICY, state, lines(high_a=1, high_b=4, high_c=5), 1)

    assert picks == [("high_b", 1)]
    assert later == [("high_c", 1)]


def test_a_newcomer_starts_level_and_not_ahead():
    state, _ = choose(POLICY, FRESH, lines(low_a=1, low_b=PLENTY), 4)

    _, picks = choose(POLICY, state, lines(low_b=PLENTY, low_c=PLENTY), 1)

    assert picks == [("low_b", 1)]


def test_a_priority_saves_up_no_slots_while_it_is_empty():
    state, _ = choose(POLICY, FRESH, lines(normal_a=PLENTY, low_a=PLENTY), 1_000)

    _, picks = choose(
        POLICY, state, lines(high_a=PLENTY, normal_a=PLENTY, low_a=PLENTY), 1_300
    )

    assert dict(picks)["high_a"] == pytest.approx(800, abs=2)


def test_once_all_were_served_no_priority_owes_slots():
    state, _ = choose(POLICY, FRESH, lines(high_a=9, low_a=9), 10)
    state, _ = choose(POLICY, state, lines(high_a=1, low_a=7), 8)

    assert state.priorities == {}
    assert not any(state.lanes.values())


@pytest.mark.parametrize(
    ("age_ms", "high", "low"),
    [(0, 80, 10), (100, 72, 18), (300, 60, 30), (700, 45, 45), (10**12, 45, 45)],
)
def test_age_lifts_low_up_to_high_and_no_further(age_ms, high, low):
    """The age is in units of ``ageing_ms`` (100): weights 1, 2, 4, 8 and 8 again."""
    backlog = {"h": (HIGH, PLENTY, 0), "l": (LOW, PLENTY, age_ms)}

    _, picks = choose(POLICY, FRESH, backlog, 90)

    assert dict(picks) == {"h": high, "l": low}


def test_age_lifts_normal_too():
    backlog = {"h": (HIGH, PLENTY, 0), "n": (NORMAL, PLENTY, 100)}

    _, picks = choose(POLICY, FRESH, backlog, 90)

    assert dict(picks) == {"h": 45, "n": 45}


def test_an_old_high_lane_gains_nothing():
    backlog = {"h": (HIGH, PLENTY, 10**9), "l": (LOW, PLENTY, 0)}

    _, picks = choose(POLICY, FRESH, backlog, 90)

    assert dict(picks) == {"h": 80, "l": 10}


def test_growing_old_does_not_undo_the_price_of_an_earlier_slot():
    fresh = {"h": (HIGH, PLENTY, 0), "l": (LOW, PLENTY, 0)}
    aged = {"h": (HIGH, PLENTY, 0), "l": (LOW, PLENTY, 10**6)}

    state, picks = choose(POLICY, FRESH, fresh, 2)

    assert dict(picks) == {"h": 1, "l": 1}
    assert dict(choose(POLICY, state, aged, 1)[1]) == {"h": 1}
    assert dict(choose(POLICY, state, aged, 8)[1]) == {"h": 8}
    assert dict(choose(POLICY, state, aged, 10)[1]) == {"h": 9, "l": 1}


@pytest.mark.parametrize("ages_ms", [(700, 0), (0, 700)])
def test_the_oldest_head_of_a_priority_speaks_for_all_its_lanes(ages_ms):
    backlog = {
        "l1": (LOW, PLENTY, ages_ms[0]),
        "l2": (LOW, PLENTY, ages_ms[1]),
        "h": (HIGH, PLENTY, 0),
    }

    _, picks = choose(POLICY, FRESH, backlog, 80)

    assert dict(picks) == {"h": 40, "l1": 20, "l2": 20}


def test_the_state_that_was_handed_in_is_left_alone():
    state, _ = choose(POLICY, FRESH, lines(high_a=9, high_b=9, low_a=9), 5)
    before = (dict(state.priorities), {p: dict(m) for p, m in state.lanes.items()})

    choose(POLICY, state, lines(high_a=6, high_b=6, low_a=9), 3)

    assert (state.priorities, state.lanes) == before
    assert LaneChoiceState() == FRESH


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"low_weight": 0}, "low_weight"),
        ({"low_weight": 5}, "normal_weight"),
        ({"normal_weight": 9}, "high_weight"),
        ({"high_weight": 101}, "high_weight"),
        ({"ageing_ms": 0}, "ageing_ms"),
    ],
)
def test_contradictory_settings_are_refused_by_name(settings, field):
    with pytest.raises(ConfigError) as caught:
        LaneChoicePolicy(**settings)

    assert caught.value.field == field


def test_the_widest_settings_are_allowed():
    policy = LaneChoicePolicy(high_weight=100, normal_weight=1, ageing_ms=1)

    assert choose(policy, FRESH, lines(high_a=PLENTY, low_a=PLENTY), 101)[1] == [
        ("high_a", 100),
        ("low_a", 1),
    ]


def test_equal_weights_are_allowed():
    policy = LaneChoicePolicy(high_weight=1, normal_weight=1, low_weight=1)
    backlog = lines(high_a=9, normal_a=9, low_a=9)

    assert choose(policy, FRESH, backlog, 6)[1] == [
        ("high_a", 2),
        ("normal_a", 2),
        ("low_a", 2),
    ]
