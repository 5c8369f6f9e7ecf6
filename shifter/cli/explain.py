"""``shifter explain``: what would happen to a job now, rule by rule."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from shifter.adapters.system import SystemClock
from shifter.app import Shifter
from shifter.cli.output import note, write_json, write_line, write_table
from shifter.cli.session import InSession
from shifter.lanes import look_once
from shifter.model.priority import Priority
from shifter.policy.admission import Finding
from shifter.policy.case import Decision
from shifter.produce.admission import Admission, Views

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

    Lanes are looked at; slots and event loop are those of an idle process, since a
    running service knows only its own.

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
    admission = asyncio.run(_admission(app))
    decision, findings = admission.explain(
        call.plan, can_run=True, has_fallback=found.cheaper is not None
    )
    facts = _facts(decision, findings)
    if json:
        write_json({"job": job, "lane": call.plan.lane, **facts})
        return
    rows = [
        (row.rule, row.found, row.says, "yes" if row.is_decisive else "")
        for row in findings
    ]
    write_table(_HEADINGS, rows, empty="")
    write_line(_sentence(decision))


async def _admission(app: Shifter) -> Admission:
    settings = app.settings
    watch = await look_once(settings, app.queues)
    if watch is None:
        note("warning: no log and state store are configured: lanes are not known")
    return Admission(
        app.admission_policy,
        SystemClock(),
        limit=settings.concurrency,
        views=Views(watch),
    )


def _facts(decision: Decision, findings: list[Finding]) -> dict[str, Any]:
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
