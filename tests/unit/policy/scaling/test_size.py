"""What a group of workers is sized to, rule by rule."""

from __future__ import annotations

import pytest

from shifter.policy.scaling.hold import HoldState, starting_with
from shifter.policy.scaling.load import Bottleneck, GroupLoad, LaneLoad
from shifter.policy.scaling.settings import ScalingPolicy, ScalingReason as Why
from shifter.policy.scaling.size import size_group

POLICY = ScalingPolicy()
LEAD_S = 13.0

# One worker does 20 such jobs a second: 100 use all of five.
BUSY = LaneLoad("shop.mail.high", due=0, ended_per_s=100.0, busy=5.0)
# A job took 0.05 s of a worker when it last ran.
QUIET = LaneLoad("shop.mail.high", due=0, cost_s=0.05)
OPEN = Bottleneck("mailer", "circuit", is_whole=True)


def sized(*lanes, workers=5, policy=POLICY, fires_s=None):
    group = GroupLoad("default", workers, LEAD_S, lanes, fires_s)
    return size_group(policy, group)


def answer(*lanes, **group):
    size = sized(*lanes, **group)
    return size.desired, size.reason


def test_nothing_due_needs_no_worker():
    assert answer(QUIET, workers=3) == (0, Why.IDLE)


def test_a_group_without_lanes_needs_no_worker():
    assert answer(workers=0) == (0, Why.IDLE)


def test_due_work_is_divided_by_the_target():
    # 12,000 jobs are 600 s of one worker: 20 workers do them in 30 s.
    size = sized(QUIET._replace(due=12_000), workers=0)

    assert (size.desired, size.reason) == (20, Why.DUE_BACKLOG)
    assert size.due_backlog_s == 600


def test_running_jobs_do_not_wait():
    assert sized(QUIET._replace(due=100, running=100)).due_backlog_s == 0


def test_what_keeps_coming_is_added_to_what_waits():
    load = QUIET._replace(due=12_000, arrivals_per_s=80.0)

    # 80 a second use four workers, which are planned to be 80 % in use: five.
    assert answer(load, workers=0) == (25, Why.DUE_BACKLOG)


def test_no_part_of_a_worker_is_kept_free_for_low_work():
    load = QUIET._replace(due=12_000, arrivals_per_s=80.0)

    assert answer(load._replace(is_low=True), workers=0) == (24, Why.DUE_BACKLOG)


def test_arrivals_that_fade_keep_no_worker():
    assert answer(QUIET._replace(arrivals_per_s=0.5), workers=1) == (0, Why.IDLE)
    assert answer(QUIET._replace(arrivals_per_s=1.0), workers=1)[0] == 1


def test_more_is_expected_at_this_hour_than_comes_now():
    load = QUIET._replace(arrivals_per_s=1.0, forecast_per_s=160.0)

    assert answer(load) == (10, Why.DUE_BACKLOG)


def test_workers_that_are_in_use_stay_where_arrivals_are_not_known():
    assert answer(BUSY, workers=10) == (7, Why.DUE_BACKLOG)  # 5 / 0.8
    assert answer(BUSY, workers=5) == (5, Why.DUE_BACKLOG)


def test_an_answer_that_is_followed_does_not_ask_for_more_by_itself():
    workers = 5
    for _ in range(20):
        load = BUSY._replace(busy=float(workers), ended_per_s=20.0 * workers, due=1_000)
        workers = sized(load, workers=workers).desired

    assert workers == 5


def test_a_deadline_before_the_target_needs_more():
    load = QUIET._replace(due=3_000, deadline_s=28.0)

    # 150 s of work within 28 s less the 13 s that a worker takes to start.
    assert answer(load, workers=0) == (10, Why.DEADLINE)


def test_a_deadline_that_no_new_worker_can_meet_asks_for_no_more():
    late = sized(QUIET._replace(due=3_000, deadline_s=2.0), workers=0)
    sooner = sized(QUIET._replace(due=3_000, deadline_s=0.5), workers=0)

    assert late.desired == sooner.desired == 12  # 150 s within 13 s


def test_a_deadline_that_has_passed_asks_for_nothing():
    assert answer(QUIET._replace(due=3_000, deadline_s=-1.0)) == (5, Why.DUE_BACKLOG)


def test_low_work_takes_half_of_the_time_that_it_has():
    load = QUIET._replace(due=12_000, deadline_s=600.0, is_low=True)

    assert answer(load, workers=0) == (2, Why.DUE_BACKLOG)


def test_work_with_time_does_not_hurry_because_other_work_does():
    urgent = QUIET._replace(due=600)
    patient = QUIET._replace(
        lane="shop.mail.low", due=12_000, deadline_s=3_600.0, is_low=True
    )

    assert answer(urgent, patient, workers=0) == (1, Why.DUE_BACKLOG)


def test_a_closed_window_asks_for_nothing():
    load = QUIET._replace(due=9_000, delayed=9_000, opens_s=LEAD_S + 1)

    assert answer(load, workers=0) == (0, Why.IDLE)


def test_workers_start_as_long_before_a_window_as_they_take():
    load = QUIET._replace(delayed=12_000, opens_s=LEAD_S)

    assert answer(load, workers=0) == (20, Why.WINDOW_OPENS)


def test_an_empty_window_opens_without_workers():
    assert answer(QUIET._replace(opens_s=1.0), workers=0) == (0, Why.IDLE)


def test_a_worker_runs_when_a_cron_job_fires():
    assert answer(QUIET, workers=0, fires_s=LEAD_S) == (1, Why.WINDOW_OPENS)
    assert answer(QUIET, workers=0, fires_s=LEAD_S + 1) == (0, Why.IDLE)


def test_delayed_work_asks_for_nothing():
    assert answer(QUIET._replace(delayed=9_000), workers=0) == (0, Why.IDLE)


def test_opportunistic_work_keeps_one_worker_and_asks_for_no_more():
    load = QUIET._replace(due=12_000, starts_before_s=90.0, is_low=True)

    assert answer(load, workers=0) == (1, Why.FLOOR)
    assert answer(load._replace(deadline_s=600.0), workers=0) == (1, Why.FLOOR)


def test_opportunistic_work_whose_deadline_is_near_is_due():
    load = QUIET._replace(due=12_000, starts_before_s=90.0, deadline_s=100.0)

    assert answer(load, workers=0) == (20, Why.DUE_BACKLOG)


def test_an_open_circuit_asks_for_no_more():
    load = BUSY._replace(due=12_000, bottleneck=OPEN)

    assert answer(load, workers=5) == (5, Why.DEPENDENCY_LIMITED)
    assert answer(QUIET._replace(due=12_000, bottleneck=OPEN), workers=5) == (
        1,
        Why.DEPENDENCY_LIMITED,
    )


def test_work_of_other_dependencies_is_sized_as_ever():
    kept = QUIET._replace(lane="shop.sms.high", due=12_000, bottleneck=OPEN)

    size = sized(QUIET._replace(due=12_000), kept, workers=0)

    assert (size.desired, size.reason) == (20, Why.DEPENDENCY_LIMITED)
    assert size.due_backlog_s == 600


def test_a_limit_is_the_bottleneck_while_workers_have_room():
    full = Bottleneck("mailer", "limit", is_whole=False)
    load = BUSY._replace(due=12_000, bottleneck=full)

    assert answer(load, workers=10) == (5, Why.DEPENDENCY_LIMITED)
    assert answer(load, workers=5) == (20, Why.DUE_BACKLOG)


def test_workers_without_a_partition_are_not_asked_for():
    load = QUIET._replace(due=12_000, partitions=6)

    assert answer(load, workers=0) == (6, Why.PARTITIONS)
    assert answer(load, load._replace(lane="shop.sms.high"), workers=0)[0] == 12


def test_workers_without_a_job_are_not_asked_for():
    assert answer(QUIET._replace(due=3, cost_s=600.0), workers=0) == (3, Why.PARTITIONS)


def test_without_history_one_worker_starts_and_those_that_run_stay():
    load = LaneLoad("shop.mail.high", due=12_000)

    assert answer(load, workers=0) == (1, Why.DUE_BACKLOG)
    assert answer(load, workers=4) == (4, Why.DUE_BACKLOG)


@pytest.mark.parametrize(("workers", "backlog_s"), [(0, 30), (1, 30), (4, 120)])
def test_without_history_the_backlog_is_what_the_workers_do_by_the_target(
    workers, backlog_s
):
    size = sized(LaneLoad("shop.mail.high", due=12_000), workers=workers)

    assert (size.due_backlog_s, size.is_measured) == (backlog_s, False)
    # Who divides it by the target comes to the same number.
    assert size.due_backlog_s / (POLICY.target_ms / 1_000) == size.desired


def test_work_of_unknown_cost_that_cannot_start_is_no_backlog():
    size = sized(LaneLoad("shop.mail.high", due=0, delayed=12_000), workers=4)

    assert (size.due_backlog_s, size.is_measured) == (0, True)


def test_a_lane_without_history_costs_what_the_others_do():
    new = LaneLoad("shop.sms.high", due=12_000)

    assert answer(BUSY, new, workers=5) == (20, Why.DUE_BACKLOG)


def test_the_floor_and_the_ceiling_come_last():
    policy = ScalingPolicy(floor=2, ceiling=4)

    assert answer(QUIET, policy=policy) == (2, Why.FLOOR)
    assert answer(QUIET._replace(due=12_000), policy=policy) == (4, Why.CEILING)


def test_each_step_has_its_numbers():
    policy = ScalingPolicy(ceiling=5)
    steps = sized(QUIET._replace(due=12_000, partitions=6), policy=policy).steps

    assert [(step.reason, step.workers) for step in steps] == [
        (Why.DUE_BACKLOG, 20),
        (Why.PARTITIONS, 6),
        (Why.CEILING, 5),
    ]
    assert "600 s of work within 30 s" in steps[0].detail


def test_a_number_that_falls_is_held():
    group = GroupLoad("default", 5, LEAD_S, [QUIET])
    first = size_group(POLICY, group, starting_with(5, now_ms=0), now_ms=1_000)
    later = size_group(POLICY, group, first.held, now_ms=299_000)
    last = size_group(POLICY, group, later.held, now_ms=301_000)

    assert (first.desired, first.reason) == (5, Why.HELD)
    assert (later.desired, later.reason) == (5, Why.HELD)
    assert (last.desired, last.reason) == (0, Why.IDLE)


def test_a_held_number_is_bounded_by_the_partitions():
    lane = QUIET._replace(due=12_000, partitions=6)
    group = GroupLoad("default", 5, LEAD_S, [lane])

    size = size_group(POLICY, group, HoldState(((0, 50),), 50), now_ms=1_000)

    assert size.desired == 6


@pytest.mark.parametrize("workers", [0, 5])
def test_a_dependency_is_the_reason_before_a_hold(workers):
    lane = QUIET._replace(due=12_000, bottleneck=OPEN)
    group = GroupLoad("default", workers, LEAD_S, [lane])

    size = size_group(POLICY, group, starting_with(workers, now_ms=0), now_ms=1_000)

    assert size.reason is Why.DEPENDENCY_LIMITED
    assert size.desired == max(workers, 1)
