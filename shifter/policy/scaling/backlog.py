"""The due backlog of a worker group, with and without history.

Before the first job of a group has ended, the cost of a job is not known. Then the
workers that run stay, one at least, and the backlog counts as what they do by the
target: so the backlog and the number say the same, and the first jobs that end give the
cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from shifter.policy.scaling.demand import LaneDemand
from shifter.policy.scaling.load import GroupLoad
from shifter.policy.scaling.settings import ScalingPolicy


def unknown(demands: Sequence[LaneDemand]) -> list[LaneDemand]:
    """Demands for work whose cost is not known. Pure."""
    return [one for one in demands if one.records and one.cost_s is None]


def assumed_workers(group: GroupLoad) -> int:
    """Workers for work whose cost is not known: those that run, at least one. Pure."""
    return max(1, group.workers)


def backlog_s(
    policy: ScalingPolicy, group: GroupLoad, demands: Sequence[LaneDemand]
) -> float:
    """Seconds of work for one worker that may start now, >= 0. Pure.

    Args:
        policy: The settings.
        group: What is measured.
        demands: What its lanes ask for.
    """
    known_s = sum(demand.work_s for demand in demands)
    if unknown(demands):
        known_s = max(known_s, assumed_workers(group) * policy.target_ms / 1_000)
    return round(known_s, 3)
