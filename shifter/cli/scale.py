"""`shifter scale`: how many workers each worker group should have, and why."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import msgspec

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.output import warn, write_json, write_line, write_table
from shifter.cli.session import InSession, need_log, need_state
from shifter.ops.scaling import Planner, ScaleGroup, ScaleReport, read_for_scaling
from shifter.ops.status import StatusSources, open_sources
from shifter.ops.texts import age_text
from shifter.policy.scaling.demand import LaneDemand
from shifter.policy.scaling.size import GroupSize
from shifter.ports import Clock

_REFRESH_S: Final = 1.0
_GROUPS: Final = ("group", "workers", "desired", "reason", "due work", "deadline")
_STEPS: Final = ("rule", "workers", "because")
_LANES: Final = ("lane", "may start", "a job costs", "due work", "within", "held by")


def scale(
    target: str,
    /,
    *,
    json: bool = False,
    explain: bool = False,
    watch: bool = False,
    session: InSession,
) -> None:
    """Show how many workers each worker group should have, and why.

    A single answer goes by one reading of the log and the state store. With --watch
    the readings add up: arrivals are observed, and a number that falls is held.

    Example: shifter scale shop.jobs:app --explain

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print one JSON object, with --watch one a line.
        explain: Show each step and each lane too.
        watch: Show it again every second until Ctrl-C.
        session: This command line.
    """
    app = session.app(target)
    need_state(need_log(app.settings))
    asyncio.run(_scale(app, as_json=json, explains=explain, repeats=watch))


async def _scale(app: Shifter, *, as_json: bool, explains: bool, repeats: bool) -> None:
    clock: Clock = SystemClock()
    planner = Planner(app, clock, remembers=repeats)
    async with open_sources(app.settings, clock, warn) as sources:
        await _show(planner, sources, as_json=as_json, explains=explains)
        while repeats:
            await clock.sleep(_REFRESH_S)
            await _show(planner, sources, as_json=as_json, explains=explains)


async def _show(
    planner: Planner, sources: StatusSources, *, as_json: bool, explains: bool
) -> None:
    report = planner.plan(await read_for_scaling(sources))
    if as_json:
        write_json(_facts(planner, report, explains=explains))
    else:
        _print(planner, report, explains=explains)
    sys.stdout.flush()


def _facts(planner: Planner, report: ScaleReport, *, explains: bool) -> Any:
    facts = msgspec.to_builtins(report)
    if explains:
        for group in facts["groups"]:
            size = planner.sizes[group["name"]]
            group["steps"] = [step._asdict() for step in size.steps]
            group["lanes"] = [_lane_facts(demand) for demand in size.demands]
    return facts


def _lane_facts(demand: LaneDemand) -> dict[str, object]:
    limit = demand.limited_by
    return {
        "lane": demand.lane,
        "records": demand.records,
        "cost_s": demand.cost_s,
        "work_s": demand.work_s,
        "horizon_s": demand.horizon_s,
        "keep_up": demand.keep_up,
        "in_use": demand.in_use,
        "kind": demand.kind.value,
        "partitions": demand.partitions,
        "limited_by": None if limit is None else f"{limit.by} of {limit.dependency}",
    }


def _print(planner: Planner, report: ScaleReport, *, explains: bool) -> None:
    rows = [
        (
            group.name,
            group.current,
            group.desired,
            group.reason,
            _backlog_text(group),
            age_text(group.tightest_deadline_s),
        )
        for group in report.groups
    ]
    write_table(_GROUPS, rows, empty="no worker groups: the app has no jobs")
    if explains:
        for group in report.groups:
            _explain(group.name, planner.sizes[group.name])


def _backlog_text(group: ScaleGroup) -> str | None:
    text = age_text(group.due_backlog_s)
    return text if group.is_measured else f"unknown, as {text}"


def _explain(name: str, size: GroupSize) -> None:
    write_line()
    write_line(f"group {name}:")
    steps = [(step.reason.value, step.workers, step.detail) for step in size.steps]
    write_table(_STEPS, steps, empty="")
    rows = [_lane_row(demand) for demand in size.demands if _is_shown(demand)]
    if rows:
        write_line()
        write_table(_LANES, rows, empty="")


def _is_shown(demand: LaneDemand) -> bool:
    return bool(demand.keeps_one or demand.records or demand.in_use)


def _lane_row(demand: LaneDemand) -> tuple[object, ...]:
    limit, cost_s = demand.limited_by, demand.cost_s
    return (
        demand.lane,
        demand.records,
        None if cost_s is None else f"{cost_s * 1_000:.3g} ms",
        None if cost_s is None else age_text(demand.work_s),
        age_text(demand.horizon_s),
        None if limit is None else f"{limit.by} of {limit.dependency}",
    )
