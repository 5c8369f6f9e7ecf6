"""`shifter submit`, `explain` and `job`: one job, before it is accepted and after."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from typing import Any, Final, Literal

from shifter import wiring
from shifter.api.app import Shifter
from shifter.api.job import BoundJob
from shifter.cli.audit import record_action
from shifter.cli.output import (
    note,
    warn,
    write_json,
    write_line,
    write_rows,
    write_table,
)
from shifter.cli.problem import Exit, ProblemError, usage
from shifter.cli.session import InSession, Session, need_log, need_state
from shifter.errors import DecodeError
from shifter.model.answer import Shed
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import canonical_id
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.ops.explain import JobWindows, explain_job
from shifter.ops.texts import age_text
from shifter.policy.admission.input import Decision

_EXAMPLE: Final = """--json '{"order_id": 7}'"""
_HEADINGS: Final = ("rule", "numbers", "says", "decisive")


def submit(  # noqa: PLR0913  # one parameter an option
    target: str,
    job: str,
    /,
    *,
    json: str = "{}",
    priority: Priority | None = None,
    delay: str | None = None,
    due_at: str | None = None,
    deadline: str | None = None,
    key: str | None = None,
    idempotency_key: str | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  # the option's name
    session: InSession,
) -> None:
    """Submit one job and print its id once it is durable.

    The job is appended to its lane, never run here. A service's spool is not used:
    no process would stay on this machine to forward it.

    Example: shifter submit shop.jobs:app send_receipt --json '{"order_id": 7}'

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        job: Name of the job.
        json: Arguments of the job by name, as one JSON object.
        priority: Priority to use instead of the job's own.
        delay: Start the job no sooner than this much later, such as 5m.
        due_at: Start the job no sooner than this instant, such as 2030-01-31T08:00:00Z.
        deadline: Do not start the job after this long, such as 6h.
        key: Jobs that share a key run one after another.
        idempotency_key: Jobs of one type that share this key take effect once.
        format: text prints the id; json prints an object with id, lane and reason.
        session: This command line.
    """
    # A spool is for services: no process stays here to forward it.
    os.environ["SHIFTER_SPOOL"] = "off"
    app = session.app(target)
    need_log(app.settings)
    call = app.find_job(job).options(
        priority=priority,
        delay=delay,
        due_at=_instant(due_at),
        deadline=deadline,
        key=key,
        idempotency_key=idempotency_key,
    )
    arguments = _arguments(call, json)
    asyncio.run(_check_log(app))
    with app:
        answer = call.defer_sync(**arguments)
    if isinstance(answer, Shed):
        raise _refusal(answer)
    if format == "json":
        lane, reason = answer.lane, answer.reason.value
        write_json({"job_id": answer.job_id, "lane": lane, "reason": reason})
    else:
        write_line(answer.job_id)


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
    and event loop are those of an idle process, since those of a running service are
    seen by that service alone.

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
    hours = [] if explanation.windows is None else _window_lines(explanation.windows)
    if json:
        decision = explanation.decision
        write_json(
            {
                "job": job,
                "lane": explanation.lane,
                "is_dark": explanation.is_dark,
                "verdict": decision.verdict.value,
                "reason": decision.reason.value,
                "eta_s": decision.eta_s,
                "retry_after_s": decision.retry_after_s,
                "rules": [row._asdict() for row in explanation.rules],
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


def job_cancel(id_: str, /, *, json: bool = False, session: InSession) -> None:
    """Ask that a job not run, or not run again.

    A job that has ended keeps its end, and the command ends with 1.

    Example: shifter job cancel 018f0000-0000-7000-8000-000000000000

    Args:
        id_: Id of the job, a UUID.
        json: Print one JSON object.
        session: This command line.
    """
    job_id = read_job_id(id_)
    app = state_app(session)
    status = asyncio.run(app.cancel(job_id))
    if status.state.is_terminal and status.state is not JobState.CANCELLED:
        raise ProblemError(
            "too_late",
            f"job {job_id} cannot be cancelled",
            f"it has ended as {status.state.value!r}",
            f"see: shifter job show {job_id}",
            Exit.FAILURE,
        )
    _write(status, as_json=json)
    record_action(app.settings, "job cancel", job_id=job_id)


async def _check_log(app: Shifter) -> None:
    # The admin of a log that refuses this client fails at once; a publisher waits for
    # its whole timeout, and then it is unknown whether anything was written.
    async with wiring.opened_admin(need_log(app.settings)):
        pass


def _arguments(call: BoundJob[..., Any], text: str) -> dict[str, Any]:
    try:
        return call.read_json(text.encode("utf-8", "surrogateescape"))
    except DecodeError as error:
        what, fix = "--json is not a JSON object", f"use {_EXAMPLE}"
        raise ProblemError("data", what, error.detail, fix, Exit.DATA) from None


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        fix = "use ISO 8601 with a time zone, such as 2030-01-31T08:00:00Z"
        raise usage("--due-at is not an instant", f"it is {text!r}", fix) from None


def _refusal(answer: Shed) -> ProblemError:
    why = answer.reason.value
    if answer.detail:
        why = f"{why}: {answer.detail}"
    fix, code = "see: shifter doctor", Exit.NO_PERMISSION
    if answer.retry_after_s is not None:
        fix, code = f"try again in {answer.retry_after_s:g} s", Exit.TRY_LATER
    elif answer.reason is Reason.TOO_LARGE:
        fix, code = "send a reference instead of the data itself", Exit.DATA
    elif answer.reason is Reason.EXPIRED:
        fix, code = "give it a later deadline or a shorter delay", Exit.DATA
    what = "the job was refused, nothing was written"
    return ProblemError("shed", what, why, fix, code)


def _window_lines(windows: JobWindows) -> list[str]:
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


def _sentence(decision: Decision) -> str:
    text = f"{decision.verdict.value}: {decision.reason.value}"
    if decision.eta_s is not None:
        text += f", expected to start in {decision.eta_s:.1f} s"
    if decision.retry_after_s is not None:
        text += f", ask again in {decision.retry_after_s:.1f} s"
    return text


def state_app(session: Session) -> Shifter:
    """An app that declares no job: a state is found by its id alone.

    Raises:
        ProblemError: No state store is configured.
    """
    settings = need_state(session.settings())
    return Shifter(settings.namespace, settings=settings)


def read_job_id(text: str) -> str:
    """The id of a job as the command line gives it, in the canonical spelling.

    Raises:
        ProblemError: It is no UUID.
    """
    job_id = canonical_id(text)
    if job_id is None:
        fix = "use the UUID that submit printed"
        raise usage("ID is not a job's id", f"it is {text!r}", fix)
    return job_id


def _write(status: JobStatus, *, as_json: bool) -> None:
    facts: dict[str, Any] = {**status._asdict(), "state": status.state.value}
    row = tuple(facts.values())
    write_rows(tuple(facts), [row], facts, as_json=as_json, empty="")
