"""A plan with its check and its limits, as ``shifter plan --json`` prints it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from shifter.errors import ConfigError
from shifter.model.time import duration_ms
from shifter.policy.planning.arrivals import Arrivals, recorded
from shifter.policy.planning.costs import UnitCosts
from shifter.policy.planning.limits import limits, most_processes, scaled
from shifter.policy.planning.plan import make_plan
from shifter.policy.planning.simulation import play, play_syncs
from shifter.policy.planning.site import Site, Sizes
from shifter.policy.planning.waits import Slo

_SEED: Final = 1
_GROWTH: Final = 10.0
GROWS_TO_PER_S: Final = 1_000_000.0
MOST_SYNCS_PLAYED: Final = 20_000


class NeedRow(msgspec.Struct, frozen=True):
    """One size: see `shifter.policy.planning.plan.Need`."""

    name: str
    value: float
    unit: str
    margin: str
    formula: str


class CheckRow(msgspec.Struct, frozen=True):
    """What the simulation of a plan found.

    Attributes:
        per_s: Jobs a second, on average.
        workers: Worker processes.
        partitions_a_lane: Partitions.
        redis_servers: Redis servers over which the claims are spread.
        brokers: Brokers.
        is_held: Whether the SLO was held.
        share_in_time: Part of the jobs that started in time.
        longest_wait_s: The longest wait of a job.
        slots_used: Part of the slots in use.
        redis_used: Part of the Redis cores in use.
        network_used: Part of the brokers' network in use.
        sync_used: Part of the core in use by syncs, of the server that has them.
        sync_p99_ms: Time of a sync, of which one in a hundred takes longer.
    """

    per_s: float
    workers: int
    partitions_a_lane: int
    redis_servers: int
    brokers: int
    is_held: bool
    share_in_time: float
    longest_wait_s: float
    slots_used: float
    redis_used: float
    network_used: float
    sync_used: float
    sync_p99_ms: float


class LimitRow(msgspec.Struct, frozen=True):
    """Where a resource ends: see `shifter.policy.planning.limits.Limit`."""

    resource: str
    per_s: float
    workers: int
    then: str


class PlanReport(msgspec.Struct, frozen=True):
    """A plan: a published contract.

    Attributes:
        mean_per_s: Jobs a second, on average.
        peak_per_s: Jobs in the busiest second.
        jobs: Jobs of the recording; 0 for a constant rate.
        longest_gap_s: Longest time without an arrival in a recording.
        share: Part of the jobs that shall start in time.
        wait_s: Longest wait from due to start.
        needs: Each size with its formula and its margin.
        check: What the simulation of the plan found.
        growth: The same for ten times the rate, and so on up to a million jobs a
            second, each with a plan of its own.
        limits: Where each resource ends, the first one first.
        most_processes: The largest fleet whose syncs one Redis core carries.
        costs: The unit costs by name.
    """

    mean_per_s: float
    peak_per_s: float
    jobs: int
    longest_gap_s: float
    share: float
    wait_s: float
    needs: list[NeedRow]
    check: CheckRow
    growth: list[CheckRow]
    limits: list[LimitRow]
    most_processes: int
    costs: dict[str, float]


def read_slo(text: str) -> Slo:
    """The SLO in a text such as ``99.9%/5s``; ``5s`` alone is of 99 % of the jobs.

    Raises:
        ConfigError: It is none, the part is not between 0 and 100 %, or the wait is 0.
    """
    part, slash, wait = text.rpartition("/")
    wait_ms = duration_ms("--slo", wait, minimum_ms=1)
    if not slash:
        return Slo(0.99, wait_ms / 1_000)
    want = "use PART%/WAIT with 0 < PART < 100, such as 99.9%/5s"
    try:
        share = float(part.removesuffix("%")) / 100
    except ValueError:
        raise ConfigError("--slo", text, want) from None
    if not part.endswith("%") or not 0 < share < 1:
        raise ConfigError("--slo", text, want)
    return Slo(share, wait_ms / 1_000)


def read_arrivals(path: Path) -> Arrivals:
    """The arrivals of a file: see `shifter.policy.planning.arrivals.recorded`.

    Raises:
        ConfigError: It cannot be read, or a line of it is wrong.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return recorded(lines)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError("--arrivals", str(path), reason) from error
    except UnicodeDecodeError as error:
        raise ConfigError("--arrivals", str(path), "it is no text") from error


def plan_report(
    arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site
) -> PlanReport:
    """Make a plan, play it in virtual time, and find where each resource ends.

    Args:
        arrivals: What arrives.
        slo: What shall hold.
        costs: The unit costs.
        site: Where the jobs run.
    """
    sizes = make_plan(arrivals, slo, costs, site)
    found = limits(costs, site, sizes)
    return PlanReport(
        mean_per_s=arrivals.mean_per_s,
        peak_per_s=arrivals.peak_per_s,
        jobs=len(arrivals.instants),
        longest_gap_s=arrivals.longest_gap_s,
        share=slo.share,
        wait_s=slo.wait_s,
        needs=[NeedRow(*need) for need in sizes.needs],
        check=_check(arrivals, slo, costs, site, sizes),
        growth=list(_growth(arrivals, slo, costs, site)),
        limits=[LimitRow(*limit) for limit in found],
        most_processes=most_processes(costs),
        costs=costs._asdict(),
    )


def _growth(
    arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site
) -> Iterable[CheckRow]:
    per_s = arrivals.mean_per_s
    while per_s < GROWS_TO_PER_S:
        per_s = min(per_s * _GROWTH, GROWS_TO_PER_S)
        grown = scaled(arrivals, per_s / arrivals.mean_per_s)
        yield _check(grown, slo, costs, site, make_plan(grown, slo, costs, site))


def _check(
    arrivals: Arrivals, slo: Slo, costs: UnitCosts, site: Site, sizes: Sizes
) -> CheckRow:
    chance = random.Random(_SEED)  # noqa: S311  # a simulation, no secret
    played = play(arrivals, slo, costs, site, sizes, lambda: chance.gauss(0, 1))
    syncs = play_syncs(min(sizes.workers, MOST_SYNCS_PLAYED), costs, chance.random)
    partitions = {need.name: need.value for need in sizes.needs}["partitions_a_lane"]
    return CheckRow(
        arrivals.mean_per_s,
        sizes.workers,
        int(partitions),
        sizes.redis,
        sizes.brokers,
        played.is_held,
        played.share_in_time,
        played.longest_wait_s,
        played.slots_used,
        played.redis_used,
        played.network_used,
        syncs.used,
        syncs.p99_s * 1_000,
    )
