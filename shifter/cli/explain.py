"""``shifter explain``: what would happen to a job now, rule by rule."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.api.job import Job
from shifter.cli.hours import hours_text, learn_hours
from shifter.cli.output import note, write_json, write_line, write_table
from shifter.cli.session import InSession
from shifter.fleet.replica import FleetReplica
from shifter.model.priority import Priority
from shifter.policy.admission.decision import RuleFinding
from shifter.policy.admission.input import Decision
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock
from shifter.produce.admission import Admission, Views
from shifter.produce.dependency_watch import DependencyWatch
from shifter.produce.submission import as_of_now
from shifter.wiring.lane_watch import look_once

_HEADINGS: Final = ("rule", "numbers", "says", "decisive")


def explain(  # noqa: PLR0913  # one parameter an option
    target: str,
    job: str,
    /,
    *,
    priority: Priority | None = None,
    deadline: str | None = None,
    delay: str | None = None,
    key: str | None = None,
    json: bool = False,
    session: InSession,
) -> None:
    """Show what would be done with a job now, and every rule with its numbers.

    Lanes, circuits and quality are looked at; slots, limits and event loop are those of
    an idle process, since a running service knows only its own.

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        job: The job's name.
        priority: Instead of the job's own.
        deadline: After this long it is not started any more, such as 6h.
        delay: Not before this much later, such as 5m.
        key: Jobs of one key run one after another.
        json: One JSON object.
        session: This command line.
    """
    app = session.app(target)
    found = app.find_job(job)
    call = found.options(priority=priority, deadline=deadline, delay=delay, key=key)
    admission = asyncio.run(_admission(app, found))
    plan = as_of_now(call.plan, admission.clock, app.hours)
    decision, findings = admission.explain(
        plan, can_run=True, has_fallback=found.cheaper is not None
    )
    hours = hours_text(app, plan)
    facts = {**_facts(decision, findings), "hours": hours}
    if json:
        is_dark = admission.is_dark
        write_json({"job": job, "lane": call.plan.lane, "is_dark": is_dark, **facts})
        return
    rows = [
        (row.rule, row.found, row.says, "yes" if row.is_decisive else "")
        for row in findings
    ]
    write_table(_HEADINGS, rows, empty="")
    write_line(_sentence(decision))
    for line in hours:
        write_line(line)
    if admission.is_dark:
        note("in the dark: this is only counted, and whatever can run here is run")


async def _admission(app: Shifter, job: Job[..., Any]) -> Admission:
    settings, clock = app.settings, SystemClock()
    if settings.state_url is not None:
        await learn_hours(app)
    watch = await look_once(settings, app.queues)
    if watch is None:
        note("warning: no log and state store are configured: lanes are not known")
    views = Views(watch)
    asks_fleet = job.dependency is not None or job.cheaper is not None
    if asks_fleet and settings.state_url is not None:
        guard = _guard(app, job.dependency, clock)
        store = wiring.open_fleet(settings)
        try:
            await guard.look(store)
        finally:
            await store.close()
        if guard.board.synced_at is None:
            note("warning: the state store does not answer: the fleet is not known")
        views = Views(watch, guard.needs)
    return Admission(
        app.admission_policy, clock, limit=settings.concurrency, views=views
    )


def _guard(
    app: Shifter, dependency: Dependency | None, clock: Clock
) -> DependencyWatch:
    """Of the one job that is asked about."""
    mine = [] if dependency is None else [dependency]
    return DependencyWatch(
        FleetReplica(mine, clock, process=wiring.new_worker_id()),
        lambda: wiring.open_fleet(app.settings),
        lambda _: dependency,
        clock,
    )


def _facts(decision: Decision, findings: list[RuleFinding]) -> dict[str, Any]:
    return {
        "verdict": decision.verdict.value,
        "reason": decision.reason.value,
        "eta_s": decision.eta_s,
        "retry_after_s": decision.retry_after_s,
        "rules": [row._asdict() for row in findings],
    }


def _sentence(decision: Decision) -> str:
    text = f"{decision.verdict.value}: {decision.reason.value}"
    if decision.eta_s is not None:
        text += f", expected to start in {decision.eta_s:.1f} s"
    if decision.retry_after_s is not None:
        text += f", ask again in {decision.retry_after_s:.1f} s"
    return text
