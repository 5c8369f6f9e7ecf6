"""Explains what would happen to a job now, and which rule decides it.

Lanes, circuits, overrides and the quality are read from the log and the state store.
Slots, limits and the event loop are those of an idle process: those of a running
service are seen by that service alone, and this is another process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.api.job import BoundJob, Job
from shifter.errors import StoreError
from shifter.fleet.replica import FleetReplica
from shifter.fleet.view import cells_of
from shifter.model.lane import Priority, parse_lane
from shifter.ops.overrides import opened_fleet
from shifter.policy.admission.decision import RuleFinding
from shifter.policy.admission.input import Decision
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock
from shifter.produce.admission import Admission, Views
from shifter.produce.options import CallPlan, as_of_now
from shifter.produce.watch import DependencyWatch
from shifter.wiring.service import look_once


class WindowOverride(NamedTuple):
    """An execution window that an operator set by hand.

    Attributes:
        scope: ``queue/mail``, ``lane/mail/low`` or ``job/send_receipt``.
        is_open: Whether jobs may start; else none does.
        left_s: Seconds until the override ends.
    """

    scope: str
    is_open: bool
    left_s: float


class JobWindows(NamedTuple):
    """When a job may start.

    Attributes:
        of_job: Windows of the job, as declared.
        of_lane: Windows of its lane, as declared.
        lane_waits: Whether the lane waits for a quiet time.
        job_waits: Whether the job waits for a quiet time.
        overrides: Settings that operators made over these windows, by scope.
        opens_s: Seconds until the job may start; ``None`` if it may start now.
    """

    of_job: list[str]
    of_lane: list[str]
    lane_waits: bool
    job_waits: bool
    overrides: list[WindowOverride]
    opens_s: float | None


class Explanation(NamedTuple):
    """The decision on a job, if it were submitted now.

    Attributes:
        job: Name of the job.
        lane: Lane that the job would be appended to.
        is_dark: Whether admission only counts, and every job runs that can run here.
        decision: The decision.
        rules: Every rule with its numbers, in the order of the decision.
        windows: When the job may start; ``None`` for a lane of another program.
    """

    job: str
    lane: str
    is_dark: bool
    decision: Decision
    rules: list[RuleFinding]
    windows: JobWindows | None


async def explain_job(
    app: Shifter,
    job: Job[..., Any],
    call: BoundJob[..., Any],
    warn: Callable[[str], None],
) -> Explanation:
    """Explain what would happen to a job if it were submitted now.

    Args:
        app: The app that declares the job.
        job: The job.
        call: The same job with the options of the submission.
        warn: Called with each part that could not be read, and why.

    Raises:
        StoreError: The log or the state store does not answer for its lanes.
    """
    admission = await _admission(app, job, warn)
    plan = as_of_now(call.plan, admission.clock, app.hours)
    decision, rules = admission.explain(
        plan, can_run=True, has_fallback=job.cheaper is not None
    )
    return Explanation(
        job=job.spec.name,
        lane=call.plan.lane,
        is_dark=admission.is_dark,
        decision=decision,
        rules=rules,
        windows=_windows(app, plan, admission.clock),
    )


async def _admission(
    app: Shifter, job: Job[..., Any], warn: Callable[[str], None]
) -> Admission:
    """The admission of an idle process that has just read the fleet's state."""
    settings, clock = app.settings, SystemClock()
    views = Views()
    if settings.state_url is not None:
        async with opened_fleet(settings) as store:
            try:
                app.hours.learn(*await cells_of(store, wiring.new_worker_id()))
            except StoreError as error:
                warn(f"hours set by hand are not known: {error}")
            # Circuits and the quality decide only where a job has a dependency or a
            # cheaper answer.
            if job.dependency is not None or job.cheaper is not None:
                watch = _watch(app, job.dependency, clock)
                await watch.look(store)
                if watch.replica.synced_at is None:
                    warn("the state store does not answer: the fleet is not known")
                views = Views(needs=watch.needs)
    lanes = await look_once(settings, app.queues)
    if lanes is None:
        warn("no log and state store are configured: lanes are not known")
    limit, views = settings.concurrency, views._replace(lanes=lanes)
    return Admission(app.admission_policy, clock, limit=limit, views=views)


def _watch(
    app: Shifter, dependency: Dependency | None, clock: Clock
) -> DependencyWatch:
    """A watch of the one dependency that the job calls."""
    dependencies = [] if dependency is None else [dependency]
    return DependencyWatch(
        FleetReplica(dependencies, clock, process=wiring.new_worker_id()),
        lambda: wiring.open_fleet(app.settings),
        lambda _: dependency,
        clock,
    )


def _windows(app: Shifter, plan: CallPlan, clock: Clock) -> JobWindows | None:
    lane, now = parse_lane(plan.lane), clock.epoch_ms()
    if lane is None:
        return None
    rule = app.hours.rules.get(lane.name)
    overrides = sorted(app.hours.settings_of(plan.spec, lane).items())
    return JobWindows(
        of_job=[window.text for window in plan.spec.windows],
        of_lane=[] if rule is None else [window.text for window in rule.windows],
        lane_waits=rule is not None and rule.is_opportunistic,
        # An opportunistic job waits for a quiet time on a LOW lane only.
        job_waits=plan.spec.opportunistic and lane.priority is Priority.LOW,
        overrides=[
            WindowOverride(scope, setting.is_open, (setting.until_ms - now) / 1_000)
            for scope, setting in overrides
        ],
        opens_s=None if plan.opens_ms is None else (plan.opens_ms - now) / 1_000,
    )
