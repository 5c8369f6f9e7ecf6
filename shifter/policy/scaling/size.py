"""How many workers a group should have: the answer, and each step that led to it.

The work that is due by a horizon must fit into the workers' time until then, for every
horizon: the processor demand criterion of earliest deadline first. To that comes what
keeps arriving. Source: Baruah, Rosier and Howell, "Algorithms and complexity concerning
the preemptive scheduling of periodic, real-time tasks on one processor", 1990.

Bounds follow in a fixed order: dependencies, partitions, hold, floor and ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from shifter.policy.scaling.backlog import assumed_workers, backlog_s, unknown
from shifter.policy.scaling.demand import (
    LaneDemand,
    demand_of,
    measured_cost_s,
    useful_workers,
)
from shifter.policy.scaling.hold import HoldState, hold
from shifter.policy.scaling.load import GroupLoad, LaneLoad
from shifter.policy.scaling.settings import ScalingPolicy, ScalingReason

_SLACK: Final = 0.05
"""A twentieth of a worker is none: a smoothed rate of arrivals never quite ends."""


class ScalingStep(NamedTuple):
    """One step of an answer.

    Attributes:
        reason: The rule.
        workers: The number after it.
        detail: Its numbers, as text.
    """

    reason: ScalingReason
    workers: int
    detail: str


class GroupSize(NamedTuple):
    """How many workers a group should have.

    Attributes:
        desired: The number.
        reason: What decided it.
        due_backlog_s: Seconds of work for one worker that may start now, >= 0.
        is_measured: Whether the cost of all that work is known.
        steps: How the number came about, in the order of the rules.
        demands: What each lane asks for.
        held: To be given to the next call.
    """

    desired: int
    reason: ScalingReason
    due_backlog_s: float
    is_measured: bool
    steps: Sequence[ScalingStep]
    demands: Sequence[LaneDemand]
    held: HoldState


def size_group(
    policy: ScalingPolicy,
    group: GroupLoad,
    held: HoldState | None = None,
    *,
    now_ms: int = 0,
) -> GroupSize:
    """How many workers a group should have.

    Args:
        policy: The settings.
        group: What is measured.
        held: Of the call before; ``None`` to answer from this measurement alone.
        now_ms: Monotonic milliseconds.

    Pure.
    """
    demands, unlimited = _demands(policy, group)
    steps = [_need(policy, group, demands)]
    without = steps[0].workers
    if unlimited is not None:
        without = _need(policy, group, unlimited).workers
    if without > steps[-1].workers:
        steps.append(_limited(steps[-1].workers, without, demands))
    useful = useful_workers(policy, demands)
    if useful < steps[-1].workers:
        detail = f"{useful} partitions or jobs to share"
        steps.append(ScalingStep(ScalingReason.PARTITIONS, useful, detail))
    state = HoldState() if held is None else held
    if held is not None:
        state, kept = hold(policy, held, steps[-1].workers, now_ms=now_ms)
        most = _partitions(group.lanes)
        kept = kept if most is None else max(min(kept, most), steps[-1].workers)
        if kept > steps[-1].workers:
            kept_s = policy.stabilisation_ms / 1_000
            detail = f"{kept} were needed within {kept_s:g} s, or nearly so many are"
            steps.append(ScalingStep(ScalingReason.HELD, kept, detail))
    steps += _bounded(policy, steps[-1].workers)
    return GroupSize(
        desired=steps[-1].workers,
        reason=_reason(steps, without),
        due_backlog_s=backlog_s(policy, group, demands),
        is_measured=not unknown(demands),
        steps=steps,
        demands=demands,
        held=state,
    )


def _costs(lanes: Sequence[LaneLoad]) -> list[float | None]:
    """What a job of each lane costs; of one that is not known, the mean of the others.

    The mean is weighted by the jobs that end.
    """
    ended = sum(lane.ended_per_s for lane in lanes)
    busy = sum(lane.busy for lane in lanes if lane.ended_per_s > 0)
    mean = busy / ended if ended > 0 and busy > 0 else None
    own = [measured_cost_s(lane) for lane in lanes]
    return [mean if cost is None else cost for cost in own]


def _demands(
    policy: ScalingPolicy, group: GroupLoad
) -> tuple[list[LaneDemand], list[LaneDemand] | None]:
    """What the lanes ask for; the same without limits, where there is one."""
    busy = sum(lane.busy for lane in group.lanes)
    has_room = group.workers == 0 or busy < policy.utilisation * group.workers

    def asked(
        lane: LaneLoad, cost_s: float | None, *, is_limited: bool = True
    ) -> LaneDemand:
        return demand_of(
            policy,
            lane,
            lead_s=group.lead_s,
            cost_s=cost_s,
            has_room=has_room,
            is_limited=is_limited,
        )

    costs = _costs(group.lanes)
    demands = [asked(*each) for each in zip(group.lanes, costs, strict=True)]
    limited = [n for n, one in enumerate(demands) if one.limited_by is not None]
    if not limited:
        return demands, None
    unlimited = list(demands)
    for place in limited:
        unlimited[place] = asked(group.lanes[place], costs[place], is_limited=False)
    return demands, unlimited


def _need(
    policy: ScalingPolicy, group: GroupLoad, demands: Sequence[LaneDemand]
) -> ScalingStep:
    """The number without any bound."""
    work_s, most, reason = 0.0, 0.0, ScalingReason.DUE_BACKLOG
    found = "no work waits"
    for demand in sorted(demands, key=lambda one: one.horizon_s):
        work_s += demand.work_s
        if demand.work_s > 0 and work_s / demand.horizon_s > most:
            most, reason = work_s / demand.horizon_s, demand.kind
            found = f"{work_s:.3g} s of work within {demand.horizon_s:.3g} s"
    coming, in_use = _steady(policy, group, demands)
    workers = math.ceil(max(most + coming, in_use) - _SLACK)
    detail = (
        f"{found}: {most:.3g} workers, {coming:.3g} more for what keeps coming, "
        f"{in_use:.3g} are in use"
    )
    of_unknown_cost = unknown(demands)
    if of_unknown_cost and workers < assumed_workers(group):
        workers, reason = assumed_workers(group), of_unknown_cost[0].kind
        detail = "no job has ended yet: as many workers as there are, at least one"
    if workers == 0:
        return _one(group, demands)
    return ScalingStep(reason, workers, detail)


def _steady(
    policy: ScalingPolicy, group: GroupLoad, demands: Sequence[LaneDemand]
) -> tuple[float, float]:
    """Workers for what keeps coming, and those in use, which stay.

    Where arrivals were not observed, they are taken to be what the workers do now. That
    asks for no more workers than there are, since their number would otherwise grow
    with each answer that is followed.
    """
    coming = sum(one.keep_up for one in demands if one.keep_up is not None)
    in_use = sum(one.in_use for one in demands)
    unobserved = sum(one.in_use for one in demands if one.keep_up is None)
    in_use += unobserved * (1 / policy.utilisation - 1)
    return coming, min(in_use, float(group.workers))


def _one(group: GroupLoad, demands: Sequence[LaneDemand]) -> ScalingStep:
    """One worker or none, where no work has to be done by more."""
    if any(demand.keeps_one for demand in demands):
        return ScalingStep(ScalingReason.FLOOR, 1, "something is due: one worker stays")
    if group.fires_s is not None and group.fires_s <= group.lead_s:
        detail = f"a cron job fires in {group.fires_s:.3g} s"
        return ScalingStep(ScalingReason.WINDOW_OPENS, 1, detail)
    return ScalingStep(ScalingReason.IDLE, 0, "nothing is due")


def _limited(
    workers: int, unlimited: int, demands: Sequence[LaneDemand]
) -> ScalingStep:
    limits = {one.limited_by for one in demands if one.limited_by is not None}
    names = ", ".join(sorted(f"{one.by} of {one.dependency!r}" for one in limits))
    detail = f"{names}: {unlimited} workers would do no more than {workers}"
    return ScalingStep(ScalingReason.DEPENDENCY_LIMITED, workers, detail)


def _partitions(lanes: Sequence[LaneLoad]) -> int | None:
    """Partitions of all lanes of a group; ``None`` where one has none."""
    found = [lane.partitions for lane in lanes if lane.partitions is not None]
    return sum(found) if found and len(found) == len(lanes) else None


def _bounded(policy: ScalingPolicy, workers: int) -> list[ScalingStep]:
    if workers < policy.floor:
        floor = policy.floor
        return [ScalingStep(ScalingReason.FLOOR, floor, f"at least {floor}")]
    if workers > policy.ceiling:
        ceiling = policy.ceiling
        return [ScalingStep(ScalingReason.CEILING, ceiling, f"at most {ceiling}")]
    return []


def _reason(steps: Sequence[ScalingStep], unlimited: int) -> ScalingReason:
    """The last rule that changed the number; a dependency's limit before a hold."""
    is_limited = any(s.reason is ScalingReason.DEPENDENCY_LIMITED for s in steps)
    if is_limited and unlimited > steps[-1].workers:
        return ScalingReason.DEPENDENCY_LIMITED
    return steps[-1].reason
