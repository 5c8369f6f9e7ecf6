"""Plays a plan in virtual time: does it hold its SLO, and what is used how far?

Jobs are a fluid: in each step arrive as many as the recording has, or the mean of the
rate with the spread of independent arrivals; what a step cannot start waits in order.
Claims and syncs share Redis, so that syncs take from what is left for claims. The syncs
of a fleet are played one by one, since they meet: each process asks, waits for the
server and for its own pace, and asks again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from shifter.policy.planning.arrivals import Arrivals
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.site import Site, Sizes, job_s, sync_cores
from shifter.policy.planning.waits import Slo
from shifter.policy.protection.fleet_pace import (
    look_every_s,
    presence_every_s,
    sync_every_s,
)

_STEP_S: Final = 0.01
_MOST_STEPS: Final = 500_000
_LASTS_S: Final = 60.0


class Played(NamedTuple):
    """What a simulation found.

    Attributes:
        share_in_time: Part of the jobs that started in time.
        longest_wait_s: Of any job.
        slots_used: Part of the slots in use, over all.
        redis_used: Part of all Redis' cores in use, over all.
        network_used: Part of the brokers' network in use, over all.
        is_held: Whether the SLO was.
    """

    share_in_time: float
    longest_wait_s: float
    slots_used: float
    redis_used: float
    network_used: float
    is_held: bool


def play(
    arrivals: Arrivals,
    slo: Slo,
    costs: UnitCosts,
    site: Site,
    sizes: Sizes,
    normal: Callable[[], float],
) -> Played:
    """Play a workload on these sizes.

    Args:
        arrivals: What arrives.
        slo: What shall hold.
        costs: The unit costs.
        site: Where the jobs run.
        sizes: What there is.
        normal: Draws from the standard normal distribution.
    """
    syncs = sync_cores(costs, sizes.workers)
    by_slots = sizes.slots / job_s(costs, site)
    by_redis = max(0.0, sizes.redis - syncs) / costs.claim_cpu_s
    by_network = (
        sizes.brokers * site.broker_bytes_per_s / (costs.record_bytes * site.replicas)
    )
    per_s = min(by_slots, by_redis, by_network)
    waiting = arrived = started = late = longest_s = passed_s = 0.0
    for step_s, jobs in _steps(arrivals, normal):
        waiting += jobs
        arrived += jobs
        begun = min(waiting, per_s * step_s)
        waiting -= begun
        started += begun
        passed_s += step_s
        # The last of those that wait now starts when all before it have.
        wait_s = waiting / per_s if per_s else math.inf
        longest_s = max(longest_s, wait_s)
        late += jobs * (wait_s > slo.wait_s)
    share = 1 - late / arrived
    rate = started / passed_s
    return Played(
        share,
        longest_s,
        rate / by_slots,
        (rate * costs.claim_cpu_s + syncs) / sizes.redis,
        rate / by_network,
        share >= slo.share,
    )


def _steps(
    arrivals: Arrivals, normal: Callable[[], float]
) -> Iterator[tuple[float, float]]:
    """The length of each step, and how many jobs arrive in it."""
    if not arrivals.instants:
        mean = arrivals.mean_per_s * _STEP_S
        for _ in range(int(_LASTS_S / _STEP_S)):
            yield _STEP_S, max(0.0, mean + math.sqrt(mean) * normal())
        return
    span_s = arrivals.instants[-1]
    step_s = max(_STEP_S, span_s / _MOST_STEPS)
    at, count = 0, len(arrivals.instants)
    for step in range(int(span_s / step_s) + 1):
        begin = at
        while at < count and arrivals.instants[at] < (step + 1) * step_s:
            at += 1
        yield step_s, float(at - begin)


class SyncsPlayed(NamedTuple):
    """What the syncs of a fleet did to one Redis server.

    Attributes:
        used: Part of the core in use.
        syncs_per_s: Syncs a second of the whole fleet.
        p99_s: Time of a sync that one of a hundred exceeds: waiting and work.
    """

    used: float
    syncs_per_s: float
    p99_s: float


def play_syncs(
    processes: int,
    costs: UnitCosts,
    uniform: Callable[[], float],
    *,
    lasts_s: float = 5.0,
) -> SyncsPlayed:
    """Play the syncs of a fleet, each on its own, on one server.

    Args:
        processes: How many there are, >= 1.
        costs: The unit costs.
        uniform: Draws from [0, 1).
        lasts_s: Virtual seconds, > 0.
    """
    every_s, look_s = sync_every_s(processes), look_every_s(processes)
    # Reports of presence are spread evenly, and slow the server for the syncs.
    reports = processes * costs.presence_cpu_s / presence_every_s(processes)
    slower = 1 / max(0.01, 1 - reports)
    asks = [uniform() * every_s for _ in range(processes)]
    heapq.heapify(asks)
    free_s, looked_s, used_s, took_s = 0.0, -look_s, 0.0, list[float]()
    while asks[0] < lasts_s:
        at_s = asks[0]
        takes_s = costs.sync_cpu_s * slower
        if max(free_s, at_s) - looked_s >= look_s:
            # The first sync after the last look's time looks at all processes.
            looked_s = max(free_s, at_s)
            takes_s += costs.sync_process_cpu_s * processes * slower
        free_s = max(free_s, at_s) + takes_s
        used_s += takes_s / slower
        took_s.append(free_s - at_s)
        heapq.heapreplace(asks, free_s + every_s)
    took_s.sort()
    ended = max(lasts_s, free_s)
    return SyncsPlayed(
        min(1.0, used_s / ended + reports),
        len(took_s) / ended,
        took_s[len(took_s) * 99 // 100] if took_s else 0.0,
    )
