"""The judge of autoscalers: their documented rules, the fleet, and the recorded day."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from examples.inference.compare import main
from examples.inference.trace import read_trace
from examples.scaling.compare import (
    IN_TIME,
    Policy,
    high_in_time,
    is_in_time,
    judge,
    lag,
    ours,
)
from examples.scaling.day import DAY_S, Job, jobs_of_day
from examples.scaling.fleet import Class, Fleet, Reading
from examples.scaling.rivals import (
    Fixed,
    Lag,
    Processor,
    Stabilised,
    average_value,
    utilisation,
)

NOBODY = Class(waiting=0, running=0, ended=0, busy_s=0.0, left_s=None)


def reading(now_s=0.0, *, ready=1, waiting=0, running=0, busy_s=0.0):
    high = Class(waiting, running, 0, busy_s, None)
    return Reading(now_s, ready, 0, high, NOBODY, is_down=False)


class TestKubernetes:
    def test_a_tenth_more_or_less_changes_nothing(self):
        assert average_value(10, 54.0, 5.0) == average_value(10, 46.0, 5.0) == 10
        assert average_value(10, 56.0, 5.0) == 12
        assert utilisation(10, 0, 6.5, 0.6) == 10
        assert utilisation(10, 0, 3.0, 0.6) == 5

    def test_pods_that_start_are_counted_as_unused(self):
        # Alone, five busy pods ask for nine; with three that start, eight are enough.
        assert utilisation(5, 0, 5.0, 0.6) == 9
        assert utilisation(5, 3, 5.0, 0.6) == 8

    def test_a_number_falls_to_the_largest_of_the_window(self):
        bounded = Stabilised()

        assert bounded(0, 10, 10) == 10
        assert bounded(100, 10, 7) == 10
        assert bounded(310, 10, 4) == 7
        assert bounded(500, 7, 4) == 4

    def test_a_number_doubles_at_most_or_grows_by_four(self):
        assert Stabilised()(0, 1, 100) == 5
        assert Stabilised()(0, 30, 100) == 60

    def test_the_processor_is_used_by_busy_slots(self):
        policy = Processor(0.5, slots=4, floor=1, ceiling=10)

        # Two workers whose eight slots were busy for all of 15 s.
        assert policy(reading(ready=2, busy_s=8 * 15.0)) == 4


class TestKeda:
    def test_lag_is_what_waits_and_what_runs(self):
        policy = Lag(5, floor=1, ceiling=100)

        assert policy(reading(ready=4, waiting=20, running=10)) == 6

    def test_a_worker_comes_with_the_first_record_and_goes_after_the_cooldown(self):
        policy = Lag(5, floor=0, ceiling=100)

        assert policy(reading(0, ready=0)) == 0
        assert policy(reading(15, ready=0, waiting=1)) == 1
        assert policy(reading(300, ready=1)) == 1
        assert policy(reading(315, ready=1)) == 0


class TestFleet:
    def test_high_jobs_go_first_and_low_ones_wait_for_their_circuit(self):
        jobs = [Job(0.0, 2.0, is_low=False), Job(0.5, 1.0, is_low=True)]
        jobs += [Job(1.0, 1.0, is_low=False), Job(50.0, 1.0, is_low=True)]

        fleet = Fleet(1, 30.0, Fixed(1), outages=[(40.0, 60.0)])
        outcome = fleet.play(jobs, 120)

        # The second HIGH job starts 1.0 s after it came, in time to the instant.
        assert (outcome.offered, outcome.late) == ((2, 2), (0, 0))
        assert outcome.worker_hours == pytest.approx(120 / 3_600)
        # Nothing ran while the circuit was open: whole periods of 15 s.
        assert outcome.wasted_s == 15.0

    def test_a_worker_costs_from_the_moment_it_is_asked_for(self):
        sizes = iter([3, 3, 3, 1])
        fleet = Fleet(4, 30.0, lambda _: next(sizes))

        outcome = fleet.play([], 60)

        assert outcome.worker_hours * 3_600 == 15 * (1 + 3 + 3 + 3)
        assert outcome.changes == 2

    def test_a_worker_that_starts_runs_nothing(self):
        jobs = [Job(1.0, 100.0, is_low=False), Job(2.0, 1.0, is_low=False)]
        seen = []

        def two(now):
            seen.append((now.now_s, now.ready, now.high.waiting))
            return 2

        Fleet(1, 30.0, two).play(jobs, 60)

        assert seen == [(15, 1, 1), (30, 1, 1), (45, 2, 1), (60, 2, 0)]


def test_a_day_has_the_load_of_the_recorded_hour():
    arrivals = read_trace()
    whole = [one for one in arrivals if 60 <= one.at_s < 58 * 60]
    jobs = list(jobs_of_day(arrivals, 1))

    assert all(before.at_s <= after.at_s for before, after in pairwise(jobs))
    assert jobs[0].at_s >= DAY_S
    assert jobs[-1].at_s < 2 * DAY_S
    recorded = sum(one.service_s for one in whole) / (57 * 60)
    assert sum(job.service_s for job in jobs) / DAY_S == pytest.approx(recorded, 0.01)
    assert len(list(jobs_of_day(arrivals, 5))) == pytest.approx(len(jobs) / 2, rel=0.01)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_on_the_recorded_day_work_is_in_time_for_three_quarters_of_the_hours():
    jobs = list(jobs_of_day(read_trace(), 0))
    six = Policy("fixed", "six", lambda: Fixed(6))
    mine, of_lag, enough = (judge(p, jobs, 1.0) for p in (ours(), lag(4), six))

    assert high_in_time(mine) >= IN_TIME
    assert high_in_time(of_lag) >= IN_TIME
    assert (mine.late[1], of_lag.late[1]) == (0, 0)
    assert mine.worker_hours <= 0.75 * of_lag.worker_hours
    assert mine.changes <= of_lag.changes / 2
    # Who knew the day beforehand would take six all day.
    assert is_in_time(enough)
    assert enough.worker_hours == 144 < mine.worker_hours


def test_no_worker_is_added_while_the_circuit_of_what_waits_is_open():
    """Twenty minutes in which 20 LOW jobs a second come; HIGH jobs keep coming."""
    high = [Job(n * 0.25, 1.0, is_low=False) for n in range(7_200)]
    low = [Job(n * 0.05, 0.1, is_low=True) for n in range(36_000)]
    jobs = sorted(high + low)
    policies = ours(), lag(4)

    def added(policy):
        fleet = Fleet(4, 30.0, policy.make(), [(300, 1_500)], workers=3)
        return fleet.play(jobs, 1_800).scale_outs_down

    assert added(policies[0]) == 0
    assert added(policies[1]) > 50


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys):
    main(["--scaling", "--days", "0.02", "--out", str(tmp_path)])

    found = json.loads((tmp_path / "scaling.json").read_text())
    names = ["shifter", "KEDA on lag", "HPA on CPU", "fixed at peak"]
    assert [row["policy"] for row in found["rows"]] == names * 2
    assert len(found["checks"]) == 4
    table = (tmp_path / "scaling.md").read_text()
    assert table.startswith("| policy | setting | days | high_in_time | low_late |")
    assert table in capsys.readouterr().out
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize("days", ["0", "8", "nan"])
def test_a_number_of_days_that_is_no_week_is_refused(days, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--scaling", "--days", days, "--out", str(tmp_path)])
    assert "--days must be above 0 and at most 7" in capsys.readouterr().err


def test_an_option_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--nights", "3"])
    assert "unknown: --nights 3" in capsys.readouterr().err
