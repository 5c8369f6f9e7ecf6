"""Where the jobs of a plan run, what one of them takes there, and what a plan is."""

from __future__ import annotations

from typing import NamedTuple

from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.waits import Slots
from shifter.policy.protection.fleet_pace import (
    look_every_s,
    presence_every_s,
    sync_every_s,
)


class Site(NamedTuple):
    """Where the jobs run, and what they need besides time.

    Attributes:
        service_s: Seconds that a handler takes, its waits included, >= 0.
        handler_cpu_s: The part of it in which it uses a core, 0 to ``service_s``.
        concurrency: Slots of a worker process, >= 1.
        lanes: Lanes over which the jobs are spread evenly, >= 1.
        replicas: Copies of a record in the log, >= 1.
        broker_bytes_per_s: Network of a broker, in each direction, > 0.
        broker_disk_bytes: Disk of a broker, > 0.
        keep_claims_s: Seconds for which a job's end is known, > 0.
        delay_s: Longest delay of a job, >= 0.
        outage_s: For how long no worker may run without that a job is lost, >= 0.
    """

    service_s: float
    handler_cpu_s: float = 0.0
    concurrency: int = 100
    lanes: int = 1
    replicas: int = 3
    broker_bytes_per_s: float = 125e6
    broker_disk_bytes: float = 1e12
    keep_claims_s: float = 300.0
    delay_s: float = 0.0
    outage_s: float = 86_400.0


class Need(NamedTuple):
    """One size.

    Attributes:
        name: A stable word.
        value: How much, in ``unit``.
        unit: Its unit.
        margin: What the value is larger by than what the formula's demand fills.
        formula: How it is made, with its numbers.
    """

    name: str
    value: float
    unit: str
    margin: str
    formula: str


class Sizes(NamedTuple):
    """What the simulation plays.

    Attributes:
        slots: Slots that work at the same time, of all workers.
        workers: Worker processes.
        redis: Redis servers over which the claims are spread.
        brokers: Brokers.
        needs: Each size with its formula.
    """

    slots: int
    workers: int
    redis: int
    brokers: int
    needs: list[Need]


def job_s(costs: UnitCosts, site: Site) -> float:
    """Seconds for which a job occupies a slot. Pure."""
    return site.service_s + costs.job_cpu_s


def useful_slots(costs: UnitCosts, site: Site) -> float:
    """Slots of a process that work at the same time: its core bounds them. Pure."""
    cpu_s = costs.job_cpu_s + site.handler_cpu_s
    return min(site.concurrency, job_s(costs, site) / cpu_s)


def worker_slots(costs: UnitCosts, site: Site) -> Slots:
    """The slots of a worker as whole ones, of the same capacity together. Pure."""
    useful = useful_slots(costs, site)
    count = max(1, int(useful))
    return Slots(count, job_s(costs, site) * count / useful)


def sync_cores(costs: UnitCosts, processes: float) -> float:
    """Redis' cores that the syncs and reports of a fleet take, in one slot. Pure."""
    syncs_s = costs.sync_cpu_s / sync_every_s(processes)
    looks_s = costs.sync_process_cpu_s / look_every_s(processes)
    reports_s = costs.presence_cpu_s / presence_every_s(processes)
    return processes * (syncs_s + looks_s + reports_s)
