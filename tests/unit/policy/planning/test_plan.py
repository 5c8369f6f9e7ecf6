"""Sizes by formula: each follows its demand, and none is far too large."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.planning.arrivals import constant, recorded
from shifter.policy.planning.costs import checked_costs
from shifter.policy.planning.plan import make_plan
from shifter.policy.planning.site import useful_slots
from shifter.policy.planning.waits import Slo, Slots, share_in_time
from tests.unit.policy.planning.plans import COSTS, SITE, SLO


def sizes_of(rate, site=SITE, slo=SLO):
    found = make_plan(constant(rate), slo, COSTS, site)
    return {need.name: need.value for need in found.needs}


def test_each_need_has_a_unit_a_margin_and_a_formula():
    needs = make_plan(constant(1_000), SLO, COSTS, SITE).needs

    assert [need.name for need in needs] == [
        *("workers", "worker_cores", "partitions_a_lane"),
        *("redis_cores", "namespaces", "redis_servers", "redis_memory"),
        *("retention", "disk", "network", "brokers"),
    ]
    assert all(need.unit and need.margin and need.formula for need in needs)


def test_workers_keep_a_part_of_their_slots_free():
    # 100 slots are busy, of 10 each: at 85 % in use they are 11.8 workers.
    assert sizes_of(1_000)["workers"] == 12


@pytest.mark.parametrize("rate", [1_000, 5_000, 50_000])
@pytest.mark.parametrize("wait_s", [0.05, 1.0, 30.0])
def test_a_plan_of_some_workers_is_not_a_third_too_large(rate, wait_s):
    slo = Slo(0.99, wait_s)
    found = make_plan(constant(rate), slo, COSTS, SITE)
    slots = Slots(10, 0.10004)

    def share(workers):
        return share_in_time(slots, per_s=rate / workers, wait_s=wait_s)

    assert share(found.workers) >= 0.99
    assert share(int(found.workers / 1.3)) < 0.99


def test_a_handler_that_computes_has_one_slot_that_works():
    computes = SITE._replace(service_s=0.1, handler_cpu_s=0.1)

    assert useful_slots(COSTS, computes) == pytest.approx(1.0)
    assert sizes_of(10, computes)["worker_cores"] == pytest.approx(1.177, abs=0.001)


def test_partitions_are_two_for_each_worker_or_what_the_bytes_need():
    many_bytes = SITE._replace(service_s=0.0, concurrency=1_000)

    assert sizes_of(1_000)["partitions_a_lane"] == 2 * 12
    # 20,000 a second are one worker, and 6 MB of which a partition takes 5.
    assert sizes_of(100_000, many_bytes)["partitions_a_lane"] == 2 * 5
    assert sizes_of(20_000, many_bytes._replace(lanes=1))["workers"] == 1


def test_memory_is_what_arrives_while_an_end_is_known():
    found = sizes_of(1_000, SITE._replace(keep_claims_s=60))

    assert found["redis_memory"] == 1_000 * 60 * 200 * 1.5


def test_retention_covers_delay_and_outage():
    found = sizes_of(10, SITE._replace(delay_s=100, outage_s=1_000))

    assert found["retention"] == (1 + 100 + 1_000) * 1.5
    assert found["disk"] == pytest.approx(10 * 300 * 3 * found["retention"])


def test_more_claims_than_a_core_bears_are_spread():
    # 10 us a job: 200,000 a second take 2 cores, of which 0.7 each may be used.
    few = SITE._replace(service_s=0.001, concurrency=1_000)

    assert sizes_of(1_000, few)["redis_servers"] == 1
    # 0.125 cores for each of 16 tags: five on a server, and the fleet's by itself.
    assert sizes_of(200_000, few)["redis_servers"] == 1 + 3
    assert sizes_of(200_000, few)["namespaces"] == 1


def test_a_namespace_is_split_where_one_hash_tag_would_use_up_a_core():
    sizes = sizes_of(1_200_000, SITE._replace(service_s=0.001, concurrency=1_000))

    # 0.75 cores for each tag of one namespace, and 0.375 of two.
    assert sizes["namespaces"] == 2
    assert sizes["redis_servers"] == 2 + 30


def test_the_peak_of_a_recording_decides_on_network_and_claims():
    burst = recorded([*(f"{n / 500}" for n in range(500)), "100"])
    found = make_plan(burst, Slo(0.99, 0.1), COSTS, SITE)
    sizes = {need.name: need.value for need in found.needs}

    assert sizes["network"] == 500 * 300 * 3
    assert found.workers > 3  # the mean of 5 a second takes one slot


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), 1e13])
def test_a_cost_that_nothing_measured_is_one_error(wrong):
    with pytest.raises(ConfigError, match="job_cpu_s"):
        checked_costs(COSTS._replace(job_cpu_s=wrong))
