"""What one lane asks of its workers: work that may start, and until when.

Work is counted in seconds of one worker. What a job costs of it is the part of the
workers that its lane uses, divided by the jobs that end: the service demand of
operational analysis. Source: Denning and Buzen, 1978.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from shifter.policy.scaling.load import Bottleneck, LaneLoad
from shifter.policy.scaling.settings import ScalingPolicy, ScalingReason

_PATIENCE: Final = 2.0
"""LOW work takes half of the time that is left to its deadline, so that an estimate
that is wrong by a factor of two still meets it."""


class LaneDemand(NamedTuple):
    """What a lane asks for.

    Attributes:
        lane: Its name.
        records: Jobs that may start and do not run yet, >= 0.
        cost_s: What each costs, seconds of one worker; ``None`` if that is not known.
        horizon_s: Time in which they shall be done, > 0.
        keep_up: Workers that the jobs take which keep coming, >= 0; ``None`` where
            that was not observed.
        in_use: Workers that the lane uses now, >= 0, but for work that has time.
        kind: ``due_backlog``, ``deadline``, ``window_opens``, or ``idle`` where nothing
            may start.
        keeps_one: Whether one worker must stay.
        partitions: Those that more workers would share; ``None`` without a bound.
        limited_by: The dependency that keeps the lane from more; ``None`` for none.
    """

    lane: str
    records: int
    cost_s: float | None
    horizon_s: float
    keep_up: float | None
    in_use: float
    kind: ScalingReason
    keeps_one: bool
    partitions: int | None
    limited_by: Bottleneck | None = None

    @property
    def work_s(self) -> float:
        """Seconds of one worker; 0 where the cost is not known."""
        return 0.0 if self.cost_s is None else self.records * self.cost_s


def measured_cost_s(load: LaneLoad) -> float | None:
    """What a job of a lane costs now; what it cost before while none ends. Pure."""
    if load.ended_per_s > 0 and load.busy > 0:
        return load.busy / load.ended_per_s
    return load.cost_s


def demand_of(
    policy: ScalingPolicy,
    load: LaneLoad,
    *,
    lead_s: float,
    cost_s: float | None,
    has_room: bool,
    is_limited: bool = True,
) -> LaneDemand:
    """What a lane asks for.

    Args:
        policy: The settings.
        load: What is measured.
        lead_s: Seconds that a new worker takes to its first job.
        cost_s: What a job of the lane costs.
        has_room: Whether the workers have room to spare.
        is_limited: Whether what limits the lane counts.

    Pure.
    """
    target_s = policy.target_ms / 1_000
    if load.opens_s > 0:
        return _closed(load, target_s, cost_s, lead_s)
    if load.starts_before_s is not None and not _is_imminent(load, lead_s):
        return _nothing_more(load, target_s, cost_s, in_use=0.0)
    limit = load.bottleneck if is_limited else None
    if limit is not None and (limit.is_whole or has_room):
        # What the lane uses now is kept, and nothing is added for what waits.
        return _nothing_more(load, target_s, cost_s, in_use=load.busy, limit=limit)
    horizon_s = _horizon_s(load, target_s, lead_s)
    is_hurried = horizon_s < target_s
    return LaneDemand(
        lane=load.lane,
        records=max(0, load.due - load.running),
        cost_s=cost_s,
        horizon_s=horizon_s,
        keep_up=_keep_up(policy, load, cost_s),
        in_use=load.busy,
        kind=ScalingReason.DEADLINE if is_hurried else ScalingReason.DUE_BACKLOG,
        keeps_one=load.due > 0,
        partitions=load.partitions,
    )


def _nothing_more(
    load: LaneLoad,
    target_s: float,
    cost_s: float | None,
    *,
    in_use: float,
    limit: Bottleneck | None = None,
) -> LaneDemand:
    """The demand of a lane whose waiting work asks for no worker now."""
    return LaneDemand(
        lane=load.lane,
        records=0,
        cost_s=cost_s,
        horizon_s=target_s,
        keep_up=0.0,
        in_use=in_use,
        kind=ScalingReason.IDLE,
        keeps_one=load.due > 0,
        partitions=load.partitions,
        limited_by=limit,
    )


def _closed(
    load: LaneLoad, target_s: float, cost_s: float | None, lead_s: float
) -> LaneDemand:
    """The demand of a lane whose window is closed.

    Jobs that were submitted meanwhile are delayed until it opens, so all delayed ones
    count when it is about to.
    """
    opens_soon = load.opens_s <= lead_s
    records = load.due + load.delayed if opens_soon else 0
    return LaneDemand(
        lane=load.lane,
        records=records,
        cost_s=cost_s,
        horizon_s=target_s,
        keep_up=0.0,
        in_use=load.busy if opens_soon else 0.0,
        kind=ScalingReason.WINDOW_OPENS if records else ScalingReason.IDLE,
        keeps_one=records > 0,
        partitions=load.partitions,
    )


def _is_imminent(load: LaneLoad, lead_s: float) -> bool:
    assert load.starts_before_s is not None  # noqa: S101  # the caller has looked
    if load.deadline_s is None:
        return False
    return load.deadline_s <= load.starts_before_s + lead_s


def _keep_up(
    policy: ScalingPolicy, load: LaneLoad, cost_s: float | None
) -> float | None:
    if load.arrivals_per_s is None or cost_s is None:
        return None
    per_s = max(load.arrivals_per_s, load.forecast_per_s or 0.0)
    # LOW jobs may wait, so that no part of a worker is kept free for them.
    return per_s * cost_s / (1.0 if load.is_low else policy.utilisation)


def _horizon_s(load: LaneLoad, target_s: float, lead_s: float) -> float:
    """The target, or what the tightest deadline leaves.

    A horizon is never shorter than a worker takes to start: no number of workers could
    meet it. A deadline that has passed asks for nothing, since its job does not start.
    """
    left_s = load.deadline_s
    if left_s is None or left_s <= 0:
        return target_s
    if load.is_low and left_s > _PATIENCE * target_s:
        return left_s / _PATIENCE
    return min(target_s, max(left_s - lead_s, lead_s, 1.0))


def useful_workers(policy: ScalingPolicy, demands: Sequence[LaneDemand]) -> int:
    """Workers that find a partition to read and a job to run; one, at least. Pure."""
    found = 0
    for demand in demands:
        steady = max(demand.keep_up or 0.0, demand.in_use / policy.utilisation)
        jobs = math.ceil(demand.records + steady)
        found += min(jobs, demand.partitions or jobs)
    return max(1, found)
