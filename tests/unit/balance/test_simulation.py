"""How calls fare with bad endpoints, long tails and many processes, in virtual time."""

from __future__ import annotations

import random

import pytest

from shifter.balance.balancer import Balancer
from shifter.policy.balance.subset import Place
from shifter.protection import BalancePolicy
from tests.unit.balance.simulation import Server, Simulation, never, tailed

HEALTHY = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(7)}
TEN = HEALTHY | {
    "http://slow:1": Server(tailed(0.1)),
    "http://failing:1": Server(tailed(0.01), failing=0.5),
    "http://stalled:1": Server(never),
}


def balancer(servers, seed=1, **options):
    return Balancer(
        "render", list(servers), BalancePolicy(**options), random.Random(seed)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_three_bad_endpoints_of_ten_are_hardly_noticed(seed):
    best = Simulation(HEALTHY, seed=seed)
    best = best.run([balancer(HEALTHY, seed)], calls=10_000, per_s=400)
    found = Simulation(TEN, seed=seed)
    found = found.run([balancer(TEN, seed)], calls=10_000, per_s=400)

    assert found.p99 <= 1.5 * best.p99
    assert found.errors <= 0.001 * 10_000
    assert found.extra <= 0.2


def test_turns_alone_do_worse_than_two_choices():
    """The bound above is not met by just any choice."""
    found = Simulation(TEN).run(
        [balancer(TEN, choice="round_robin")], calls=10_000, per_s=400
    )
    best = Simulation(HEALTHY).run([balancer(HEALTHY)], calls=10_000, per_s=400)
    assert found.p99 > 1.5 * best.p99


def test_second_tries_halve_a_long_tail_for_few_more_calls():
    def long_tailed(draws):
        return 0.5 if draws.random() < 0.03 else 0.01 * (0.5 + draws.random())

    servers = {f"http://h{number}:1": Server(long_tailed) for number in range(10)}
    plain = Simulation(servers).run([balancer(servers)], calls=20_000, per_s=300)
    hedged = Simulation(servers, hedge=0.95).run(
        [balancer(servers)], calls=20_000, per_s=300
    )

    assert hedged.p99 <= plain.p99 / 2
    assert hedged.extra <= 0.06


def test_the_busiest_of_many_endpoints_gets_little_more_than_its_share():
    """A hundred processes, each of which knows only of its own calls."""
    servers = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(100)}
    processes = [balancer(servers, seed) for seed in range(100)]

    found = Simulation(servers).run(processes, calls=60_000, per_s=5_000)

    assert max(found.made.values()) <= 1.25 * 60_000 / 100


def test_a_hundred_processes_with_subsets_of_twenty_load_a_hundred_endpoints_evenly():
    """A fifth of the connections, and no endpoint with a quarter more than the mean."""
    servers = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(100)}
    processes = [balancer(servers, seed, subset=20) for seed in range(100)]
    for number, process in enumerate(processes):
        process.place = Place(number, 100)

    found = Simulation(servers).run(processes, calls=60_000, per_s=5_000)

    assert [len(process.views(0.0)) for process in processes] == [20] * 100
    assert max(found.made.values()) <= 1.25 * 60_000 / 100


def test_an_endpoint_that_heals_is_used_again():
    servers = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(3)}
    one = balancer(servers)
    world = Simulation(servers)
    servers["http://h0:1"].failing = 1.0
    world.run([one], calls=2_000, per_s=100)
    assert world.result.made["http://h0:1"] <= 50

    servers["http://h0:1"].failing = 0.0
    # An hour later, by the clock of the balancer.
    later = Simulation(servers)
    later.at(3_600.0, later.arrive, one)
    later.run([one], calls=0, per_s=1)
    for _ in range(3_000):
        later.at(3_600 + later.draws.random() * 30, later.arrive, one)
    later.run([one], calls=0, per_s=1)
    assert later.result.made["http://h0:1"] >= 500


def test_endpoints_that_flap_every_second_are_hardly_noticed():
    """Two of six fail all calls of every other second."""
    servers = {f"http://h{number}:1": Server(tailed(0.01)) for number in range(6)}
    world = Simulation(servers)

    def flap(now, failing):
        for name in ("http://h0:1", "http://h1:1"):
            servers[name].failing = float(failing)
        if now < 30:
            world.at(now + 1, flap, not failing)

    world.at(0.0, flap, True)
    found = world.run([balancer(servers)], calls=9_000, per_s=300)

    assert found.errors <= 0.001 * 9_000
    assert found.extra <= 0.2


def test_where_all_endpoints_are_down_each_call_is_tried_three_times_and_fails():
    servers = {
        f"http://h{number}:1": Server(tailed(0.01), failing=1.0) for number in range(6)
    }
    one = balancer(servers)
    world = Simulation(servers)

    found = world.run([one], calls=1_000, per_s=100)

    assert found.errors == 1_000
    assert found.extra == 2
    assert sum(view.out_s > 0 for view in one.views(10.0)) == 3

    for server in servers.values():
        server.failing = 0.0
    later = Simulation(servers)
    for number in range(1_000):
        later.at(20 + number / 100, later.arrive, one)
    assert later.run([one], calls=0, per_s=1).errors == 0
