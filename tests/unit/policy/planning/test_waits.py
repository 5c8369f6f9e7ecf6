"""How long jobs wait for a slot, by Erlang's formula and by playing a recording."""

from __future__ import annotations

import math
import random

import pytest

from shifter.policy.planning.waits import (
    Slo,
    Slots,
    fewest_workers,
    fewest_workers_recorded,
    recorded_in_time,
    share_in_time,
)


def test_one_slot_waits_as_the_queue_m_m_1():
    found = share_in_time(Slots(1, 0.1), per_s=8, wait_s=0.5)

    assert found == pytest.approx(1 - 0.8 * math.exp(-2 * 0.5))


def test_two_slots_wait_as_the_queue_m_m_2():
    # Of two servers with offered load a, a job waits with a^2 / (2 + a).
    found = share_in_time(Slots(2, 0.1), per_s=10, wait_s=0.0)

    assert found == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("per_s", [1, 10, 300, 5_000, 1_000_000])
@pytest.mark.parametrize("wait_s", [0.01, 1.0, 60.0])
def test_one_worker_less_than_the_fewest_misses_the_slo(per_s, wait_s):
    slo, slots = Slo(0.99, wait_s), Slots(10, 0.2)
    workers = fewest_workers(slo, slots, per_s=per_s)

    assert share_in_time(slots, per_s=per_s / workers, wait_s=wait_s) >= 0.99
    if workers > 1:
        fewer = per_s / (workers - 1)
        assert share_in_time(slots, per_s=fewer, wait_s=wait_s) < 0.99


def test_a_recording_waits_by_its_order():
    # Three at once on one slot of 1 s: they wait 0, 1 and 2 s.
    share = recorded_in_time([0.0, 0.0, 0.0], 1, Slots(1, 1.0), wait_s=1.0)

    assert share == pytest.approx(2 / 3)


def test_a_free_slot_of_one_worker_helps_no_job_of_another():
    instants = [0.0] * 8
    slots = Slots(1, 1.0)

    shared = recorded_in_time(instants, 1, Slots(8, 1.0), wait_s=0.5)
    apart = recorded_in_time(instants, 8, slots, wait_s=0.5)
    assert shared == 1.0
    assert apart < 1.0


def test_the_fewest_workers_of_a_recording_are_the_fewest():
    chance = random.Random(3)
    instants = sorted(chance.uniform(0, 60) for _ in range(3_000))
    slo, slots = Slo(0.99, 0.1), Slots(2, 0.2)
    workers = fewest_workers_recorded(slo, slots, instants)

    def share(count: int) -> float:
        return recorded_in_time(instants, count, slots, wait_s=0.1)

    assert share(workers) >= 0.99 > share(workers - 1)


def test_erlang_asks_for_no_less_than_what_is_played():
    # Jobs of one length wait less than those of exponential length.
    chance = random.Random(5)
    at_s, instants = 0.0, []
    while at_s < 300:
        at_s += chance.expovariate(50)
        instants.append(at_s)
    slo, slots = Slo(0.99, 0.2), Slots(4, 0.2)

    played = fewest_workers_recorded(slo, slots, instants)
    assert played <= fewest_workers(slo, slots, per_s=50) <= 1.5 * played
