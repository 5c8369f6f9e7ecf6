"""How long jobs wait for a slot, by Erlang's formula and by playing a recording."""

from __future__ import annotations

import math
import random

import pytest

from shifter.policy.planning.waits import (
    Slo,
    fewest_slots,
    fewest_slots_recorded,
    recorded_in_time,
    share_in_time,
)


def test_one_slot_waits_as_the_queue_m_m_1():
    found = share_in_time(1, per_s=8, job_s=0.1, wait_s=0.5)

    assert found == pytest.approx(1 - 0.8 * math.exp(-2 * 0.5))


def test_two_slots_wait_as_the_queue_m_m_2():
    # Of two servers with offered load a, a job waits with a^2 / (2 + a).
    found = share_in_time(2, per_s=10, job_s=0.1, wait_s=0.0)

    assert found == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("per_s", [1, 10, 300, 5_000])
@pytest.mark.parametrize("wait_s", [0.01, 1.0, 60.0])
def test_one_slot_less_than_the_fewest_misses_the_slo(per_s, wait_s):
    slo = Slo(0.99, wait_s)
    slots = fewest_slots(slo, per_s=per_s, job_s=0.2)
    rates = {"per_s": per_s, "job_s": 0.2, "wait_s": wait_s}

    assert share_in_time(slots, **rates) >= 0.99
    if slots > 1:
        assert share_in_time(slots - 1, **rates) < 0.99


def test_millions_of_slots_are_the_mean_and_some_roots():
    found = fewest_slots(Slo(0.99, 1.0), per_s=4_000_000, job_s=1.0)

    assert found == 4_000_000 + 4 * 2_000


def test_a_recording_waits_by_its_order():
    # Three at once on one slot of 1 s: they wait 0, 1 and 2 s.
    share = recorded_in_time([0.0, 0.0, 0.0], 1, job_s=1.0, wait_s=1.0)

    assert share == pytest.approx(2 / 3)


def test_the_fewest_slots_of_a_recording_are_the_fewest():
    chance = random.Random(3)
    instants = sorted(chance.uniform(0, 60) for _ in range(3_000))
    slo = Slo(0.99, 0.1)
    slots = fewest_slots_recorded(slo, instants, job_s=0.2)

    def share(count: int) -> float:
        return recorded_in_time(instants, count, job_s=0.2, wait_s=0.1)

    assert share(slots) >= 0.99 > share(slots - 1)


def test_erlang_asks_for_no_less_than_what_is_played():
    # Jobs of one length wait less than those of exponential length.
    chance = random.Random(5)
    at_s, instants = 0.0, []
    while at_s < 300:
        at_s += chance.expovariate(50)
        instants.append(at_s)
    slo = Slo(0.99, 0.2)

    played = fewest_slots_recorded(slo, instants, job_s=0.2)
    assert played <= fewest_slots(slo, per_s=50, job_s=0.2) <= 1.3 * played
