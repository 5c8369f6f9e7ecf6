"""Where each resource ends when a workload grows, and what is to be sharded then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from shifter.model.fleet import MAX_PROCESSES
from shifter.policy.planning.arrivals import Arrivals
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.plan import (
    BROKER_USED,
    REDIS_USED,
    TAGS,
    WORKERS_USED,
)
from shifter.policy.planning.site import (
    Site,
    Sizes,
    job_s,
    sync_cores,
    useful_slots,
)

_MOST_PER_S: Final = 1e12
_HALVINGS: Final = 60


class Limit(NamedTuple):
    """Where a resource ends.

    Attributes:
        resource: A stable word.
        per_s: Jobs a second that it carries.
        workers: Worker processes at that rate.
        then: What to do beyond it.
    """

    resource: str
    per_s: float
    workers: int
    then: str


def limits(costs: UnitCosts, site: Site, sizes: Sizes) -> list[Limit]:
    """Where each resource ends, the first one first; workers are as many as needed.

    One Redis server, and as many as there are hash tags; the planned brokers; and the
    syncs of the fleet, which are in one hash slot. Pure.
    """
    a_worker = useful_slots(costs, site) / job_s(costs, site) * WORKERS_USED

    def workers(per_s: float) -> float:
        return per_s / a_worker

    def one_redis(per_s: float) -> float:
        return per_s * costs.claim_cpu_s + sync_cores(costs, workers(per_s))

    def all_tags(per_s: float) -> float:
        claims = per_s * costs.claim_cpu_s / TAGS
        return claims + sync_cores(costs, workers(per_s))

    def fleet(per_s: float) -> float:
        return _fleet_cores(costs, workers(per_s))

    brokers = sizes.brokers * site.broker_bytes_per_s * BROKER_USED
    found = [
        (
            "redis",
            _largest(one_redis),
            "use Redis Cluster: claims are spread over its hash slots",
        ),
        (
            "redis_cluster",
            _largest(all_tags),
            f"claims of a namespace have {TAGS} hash tags: split the namespace",
        ),
        (
            "fleet",
            _largest(fleet),
            (
                f"a fleet has {MAX_PROCESSES} processes, in one hash slot: split the "
                "namespace"
            ),
        ),
        (
            "brokers",
            brokers / (costs.record_bytes * site.replicas),
            "add brokers and partitions",
        ),
    ]
    found.sort(key=lambda one: one[1])
    return [
        Limit(name, per_s, math.ceil(workers(per_s)), then)
        for name, per_s, then in found
    ]


def most_processes(costs: UnitCosts) -> int:
    """The largest fleet that one Redis core carries. Pure."""
    return round(_largest(lambda processes: _fleet_cores(costs, processes)))


def _fleet_cores(costs: UnitCosts, processes: float) -> float:
    """Redis' cores for a fleet; a store knows no more processes than its bound."""
    if processes > MAX_PROCESSES:
        return math.inf
    return sync_cores(costs, processes)


def _largest(cores: Callable[[float], float]) -> float:
    """The largest demand that takes no more of a core than Redis may use."""
    least, most = 0.0, _MOST_PER_S
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        if cores(middle) <= REDIS_USED:
            least = middle
        else:
            most = middle
    return least


def scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    """A constant rate that is a multiple of another's mean. Pure."""
    per_s = arrivals.mean_per_s * factor
    return Arrivals(per_s, per_s)
