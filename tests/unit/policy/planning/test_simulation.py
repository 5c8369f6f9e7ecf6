"""A plan is played in virtual time, and so are the syncs of its fleet."""

from __future__ import annotations

import random

import pytest

from shifter.policy.planning.arrivals import constant, recorded
from shifter.policy.planning.limits import limits, most_processes, scaled
from shifter.policy.planning.plan import make_plan
from shifter.policy.planning.simulation import play, play_syncs
from shifter.policy.planning.site import sync_cores
from shifter.policy.planning.waits import Slo
from tests.unit.policy.planning.plans import COSTS, SITE, SLO


def played(arrivals, sizes, slo=SLO, costs=COSTS):
    chance = random.Random(1)
    return play(arrivals, slo, costs, SITE, sizes, lambda: chance.gauss(0, 1))


@pytest.mark.parametrize("rate", [100, 10_000, 1_000_000])
def test_a_plan_holds_its_slo_when_it_is_played(rate):
    arrivals = constant(rate)
    found = played(arrivals, make_plan(arrivals, SLO, COSTS, SITE))

    assert found.is_held
    assert found.slots_used <= 0.9


def test_a_third_fewer_slots_miss_it():
    arrivals = constant(1_000)
    sizes = make_plan(arrivals, SLO, COSTS, SITE)
    found = played(arrivals, sizes._replace(slots=int(sizes.slots * 0.7)))

    assert not found.is_held
    assert found.longest_wait_s > 1


def test_syncs_take_redis_from_claims():
    arrivals = constant(60_000)
    sizes = make_plan(arrivals, SLO, COSTS, SITE)._replace(redis=1, workers=1)
    crowded = sizes._replace(workers=5_000)
    slow = COSTS._replace(sync_cpu_s=150e-6)

    assert played(arrivals, sizes, costs=slow).is_held
    assert not played(arrivals, crowded, costs=slow).is_held


def test_the_largest_fleet_is_bounded_by_the_core_or_by_the_store():
    slow = COSTS._replace(sync_cpu_s=400e-6)

    assert most_processes(COSTS) == 20_000
    # Five syncs, a report and the looks: 2 ms of the core a second for each process.
    assert 200 < most_processes(slow) < 350
    assert sync_cores(COSTS, 10_000) < 0.7


def test_a_recording_is_played_as_it_was():
    burst = recorded([*(f"{n / 100}" for n in range(100)), "50"])
    sizes = make_plan(burst, Slo(0.9, 0.5), COSTS, SITE)

    assert played(burst, sizes._replace(slots=20), Slo(0.9, 0.5)).is_held
    assert not played(burst, sizes._replace(slots=1), Slo(0.9, 0.5)).is_held


def test_the_syncs_of_a_fleet_use_what_the_formula_says():
    no_presence = COSTS._replace(presence_cpu_s=1e-9)
    found = play_syncs(100, no_presence, random.Random(1).random)

    assert found.used == pytest.approx(sync_cores(no_presence, 100), rel=0.1)


def test_a_fleet_that_is_too_large_waits_for_its_syncs():
    slow = COSTS._replace(sync_cpu_s=COSTS.sync_cpu_s * 20)

    assert play_syncs(1_000, COSTS, random.Random(1).random).p99_s < 0.05
    assert play_syncs(1_000, slow, random.Random(1).random).p99_s > 0.05


def test_each_resource_ends_where_its_use_reaches_its_bound():
    sizes = make_plan(constant(1_000), SLO, COSTS, SITE)
    found = limits(COSTS, SITE, sizes)

    rates = [limit.per_s for limit in found]
    ends = {limit.resource: limit for limit in found}
    assert rates == sorted(rates)
    one = ends["redis"]
    used = one.per_s * COSTS.claim_cpu_s + sync_cores(COSTS, one.workers)
    assert used == pytest.approx(0.7, rel=0.02)
    assert ends["redis"].per_s < ends["redis_cluster"].per_s
    assert all(limit.then for limit in found)


def test_growth_is_a_constant_rate():
    grown = scaled(recorded(["0", "0", "10"]), 10)

    assert (grown.mean_per_s, grown.instants) == (pytest.approx(3.0), ())
