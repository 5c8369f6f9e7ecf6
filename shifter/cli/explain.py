"""`shifter explain`: formats what `shifter.ops.explain` finds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from shifter.cli.columns import age_text
from shifter.cli.output import note, warn, write_json, write_line, write_table
from shifter.cli.session import InSession
from shifter.model.lane import Priority
from shifter.ops.explain import JobWindows, explain_job
from shifter.policy.admission.decision import RuleFinding
from shifter.policy.admission.input import Decision

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
    """Show what would happen to a job now, rule by rule.

    Lanes, circuits and quality are read from the log and the state store. Slots, limits
    and event loop are those of an idle process, since a running service knows only its
    own.

    Example: shifter explain shop.jobs:app send_receipt --priority low

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        job: Name of the job.
        priority: Priority to use instead of the job's own.
        deadline: Do not start the job after this long, such as 6h.
        delay: Start the job no sooner than this much later, such as 5m.
        key: Jobs that share a key run one after another.
        json: Print one JSON object.
        session: This command line.
    """
    app = session.app(target)
    found = app.find_job(job)
    call = found.options(priority=priority, deadline=deadline, delay=delay, key=key)
    explanation = asyncio.run(explain_job(app, found, call, warn))
    hours = [] if explanation.windows is None else window_lines(explanation.windows)
    if json:
        write_json(
            {
                "job": job,
                "lane": explanation.lane,
                "is_dark": explanation.is_dark,
                **_facts(explanation.decision, explanation.rules),
                "hours": hours,
            }
        )
        return
    rows = [
        (row.rule, row.found, row.says, "yes" if row.is_decisive else "")
        for row in explanation.rules
    ]
    write_table(_HEADINGS, rows, empty="")
    write_line(_sentence(explanation.decision))
    for line in hours:
        write_line(line)
    if explanation.is_dark:
        note("in the dark: the decision is only counted; what can run here runs")


def window_lines(windows: JobWindows) -> list[str]:
    """When a job may start, by its windows and by overrides of them, a line each."""
    lines = [f"window of the job: {text}" for text in windows.of_job]
    lines += [f"window of its lane: {text}" for text in windows.of_lane]
    lines += ["its lane waits for a quiet time"] if windows.lane_waits else []
    lines += ["the job waits for a quiet time"] if windows.job_waits else []
    for scope, is_open, left_s in windows.overrides:
        word = "open" if is_open else "closed"
        lines.append(f"by hand: {scope} is {word} for {age_text(left_s)} more")
    if windows.opens_s is not None:
        lines.append(f"it may start in {age_text(windows.opens_s)}")
    return lines


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
