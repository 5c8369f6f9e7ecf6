"""From a workload to the sizes of a fleet and its servers, each with its formula.

Each margin is written beside its number. The utilisations left free are the usual ones
of capacity planning: a queue's wait doubles at about 80 % of its capacity, and a server
that one core serves (Redis) has to answer while it makes its snapshot.
"""

from __future__ import annotations

import math
from typing import Final

from shifter.policy.planning.arrivals import Arrivals
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.site import (
    Need,
    Site,
    Sizes,
    job_s,
    sync_cores,
    useful_slots,
    worker_slots,
)
from shifter.policy.planning.waits import (
    Slo,
    fewest_workers,
    fewest_workers_recorded,
)

WORKERS_USED: Final = 0.85
"""Part of the workers' slots that may be in use."""
REDIS_USED: Final = 0.7
"""Part of a core that a Redis server may use."""
BROKER_USED: Final = 0.6
"""Part of a broker's disk and network: one of three may fail, with 10 % to spare."""
MEMORY_MARGIN: Final = 1.5
"""Redis' allocator, and a snapshot's copied pages."""
RETENTION_MARGIN: Final = 1.5
PARTITIONS_A_WORKER: Final = 2
"""So that a fleet can double without new partitions, which change the order of keys."""
PARTITION_BYTES_PER_S: Final = 5_000_000
"""Bytes a second that one partition may take: half of what a slow disk writes."""
BROKERS: Final = 3
"""The fewest brokers with which records survive the loss of one."""
TAGS: Final = 16
"""Hash tags over which the claims of a namespace are spread."""


def make_plan(arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site) -> Sizes:
    """The sizes for a workload. Pure."""
    slots, needs = _workers(arrivals, slo, costs, site)
    workers = int(needs[0].value)
    needs.append(_partitions(arrivals, costs, site, workers))
    needs += _redis(arrivals, costs, site, workers)
    needs += _brokers(arrivals, slo, costs, site)
    sizes = {need.name: need.value for need in needs}
    return Sizes(
        slots, workers, int(sizes["redis_servers"]), int(sizes["brokers"]), needs
    )


def _workers(
    arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site
) -> tuple[int, list[Need]]:
    takes_s, useful = job_s(costs, site), useful_slots(costs, site)
    slots = worker_slots(costs, site)
    by_use = arrivals.mean_per_s * takes_s / useful / WORKERS_USED
    if arrivals.instants:
        fewest = fewest_workers_recorded(slo, slots, arrivals.instants)
        # What was measured may be off by a tenth, and a recording has no chance left.
        wanted = max(fewest / WORKERS_USED, by_use)
        formula = f"max({fewest} hold the SLO in the recording / {WORKERS_USED:g}, "
    else:
        fewest = fewest_workers(slo, slots, per_s=arrivals.mean_per_s)
        wanted = max(fewest, by_use)
        formula = f"max({fewest} hold the SLO by Erlang's formula, "
    workers = max(1, math.ceil(wanted))
    cpu_s = costs.job_cpu_s + site.handler_cpu_s
    cores = arrivals.mean_per_s * cpu_s / WORKERS_USED
    return max(1, int(workers * useful)), [
        Need(
            "workers",
            workers,
            "processes",
            f"{1 - WORKERS_USED:.0%} of the slots stay free",
            f"{formula}{arrivals.mean_per_s:g}/s x {takes_s:.6g} s / "
            f"{useful:.4g} slots / {WORKERS_USED:g})",
        ),
        Need(
            "worker_cores",
            cores,
            "cores",
            f"{1 - WORKERS_USED:.0%} of the cores stay free",
            f"{arrivals.mean_per_s:g}/s x {cpu_s:.3g} s of a core / {WORKERS_USED:g}",
        ),
    ]


def _partitions(arrivals: Arrivals, costs: UnitCosts, site: Site, workers: int) -> Need:
    by_workers = PARTITIONS_A_WORKER * workers
    bytes_per_s = arrivals.peak_per_s * costs.record_bytes / site.lanes
    by_bytes = math.ceil(bytes_per_s / PARTITION_BYTES_PER_S)
    return Need(
        "partitions_a_lane",
        max(by_workers, by_bytes),
        "partitions",
        f"x{PARTITIONS_A_WORKER}: the fleet may double",
        f"max({PARTITIONS_A_WORKER} x {workers} workers, "
        f"{bytes_per_s:.4g} B/s / {PARTITION_BYTES_PER_S:g} B/s)",
    )


def _redis(
    arrivals: Arrivals, costs: UnitCosts, site: Site, workers: int
) -> list[Need]:
    claims = arrivals.peak_per_s * costs.claim_cpu_s
    namespaces = 1
    # The fleet's state has the hash slot of one of a namespace's tags.
    while _tag(claims, namespaces) + _syncs(costs, workers, namespaces) > REDIS_USED:
        namespaces += 1
    syncs = namespaces * _syncs(costs, workers, namespaces)
    servers = 1
    if claims + syncs > REDIS_USED:
        tags = max(1, int(REDIS_USED / _tag(claims, namespaces)))
        servers = namespaces + math.ceil(namespaces * (TAGS - 1) / tags)
    held = arrivals.mean_per_s * site.keep_claims_s
    memory = held * costs.claim_bytes * MEMORY_MARGIN
    free = f"{1 - REDIS_USED:.0%} of a core stays free"
    return [
        Need(
            "redis_cores",
            claims + syncs,
            "cores",
            "none: redis_servers has it",
            f"{arrivals.peak_per_s:g}/s x {costs.claim_cpu_s:.3g} s + "
            f"{syncs:.3g} for the syncs of {workers} processes",
        ),
        Need(
            "namespaces",
            namespaces,
            "namespaces",
            free,
            f"a namespace has {TAGS} hash tags: {_tag(claims, namespaces):.3g} cores "
            "each, and the syncs in the slot of one",
        ),
        Need("redis_servers", servers, "servers", free, "one core each, whole tags"),
        Need(
            "redis_memory",
            memory,
            "bytes",
            f"x{MEMORY_MARGIN:g}",
            f"{arrivals.mean_per_s:g}/s x {site.keep_claims_s:g} s x "
            f"{costs.claim_bytes:.4g} B x {MEMORY_MARGIN:g}",
        ),
    ]


def _tag(claims: float, namespaces: int) -> float:
    """Redis' cores that the claims of one hash tag take."""
    return claims / (TAGS * namespaces)


def _syncs(costs: UnitCosts, workers: int, namespaces: int) -> float:
    """Redis' cores that the fleet of one namespace takes."""
    return sync_cores(costs, math.ceil(workers / namespaces))


def _brokers(arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site) -> list[Need]:
    retention_s = (slo.wait_s + site.delay_s + site.outage_s) * RETENTION_MARGIN
    written = arrivals.mean_per_s * costs.record_bytes * site.replicas
    disk = written * retention_s
    network = arrivals.peak_per_s * costs.record_bytes * site.replicas
    brokers = max(
        BROKERS,
        site.replicas,
        math.ceil(disk / (site.broker_disk_bytes * BROKER_USED)),
        math.ceil(network / (site.broker_bytes_per_s * BROKER_USED)),
    )
    free = f"{1 - BROKER_USED:.0%} stays free: one of three may fail"
    return [
        Need(
            "retention",
            retention_s,
            "seconds",
            f"x{RETENTION_MARGIN:g}",
            f"({slo.wait_s:g} s to start + {site.delay_s:g} s delay + "
            f"{site.outage_s:g} s without workers) x {RETENTION_MARGIN:g}",
        ),
        Need(
            "disk",
            disk,
            "bytes",
            "none: brokers has it",
            f"{arrivals.mean_per_s:g}/s x {costs.record_bytes:.4g} B x "
            f"{site.replicas} copies x {retention_s:g} s",
        ),
        Need(
            "network",
            network,
            "bytes/s",
            "none: brokers has it",
            f"{arrivals.peak_per_s:g}/s x {costs.record_bytes:.4g} B x "
            f"{site.replicas} copies in; as much out, to followers and workers",
        ),
        Need(
            "brokers",
            brokers,
            "brokers",
            free,
            f"max({BROKERS}, disk / {site.broker_disk_bytes:.3g} B, "
            f"network / {site.broker_bytes_per_s:.3g} B/s), each / {BROKER_USED:g}",
        ),
    ]
