"""``shifter submit``: hand over one job, as the service would."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from typing import Any, Final, Literal

from shifter import wiring
from shifter.api.app import Shifter
from shifter.api.job import BoundJob
from shifter.cli.output import write_json, write_line
from shifter.cli.problem import Exit, Problem, ProblemError, usage
from shifter.cli.session import InSession, need_log
from shifter.errors import DecodeError
from shifter.model.answer import Shed
from shifter.model.lane import Priority
from shifter.model.reason import Reason

_EXAMPLE: Final = """--json '{"order_id": 7}'"""


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
    # A spool is for services: no process would stay here to forward it.
    os.environ["SHIFTER_SPOOL"] = "off"
    app = session.app(target)
    need_log(app.settings)
    options: dict[str, Any] = {
        "priority": priority,
        "delay": delay,
        "due_at": _instant(due_at),
        "deadline": deadline,
        "key": key,
        "idempotency_key": idempotency_key,
    }
    _submit(app, job, json, options, as_json=format == "json")


def _submit(
    app: Shifter,
    name: str,
    text: str,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    call = app.find_job(name).options(**options)
    arguments = _arguments(call, text)
    asyncio.run(_check_log(app))
    with app:
        answer = call.defer_sync(**arguments)
    if isinstance(answer, Shed):
        raise ProblemError(_refusal(answer))
    if as_json:
        lane, reason = answer.lane, answer.reason.value
        write_json({"job_id": answer.job_id, "lane": lane, "reason": reason})
    else:
        write_line(answer.job_id)


async def _check_log(app: Shifter) -> None:
    # The admin of a log that refuses this client fails at once; a publisher waits for
    # its whole timeout and then cannot tell whether anything was written.
    async with wiring.opened_admin(need_log(app.settings)):
        pass


def _arguments(call: BoundJob[..., Any], text: str) -> dict[str, Any]:
    try:
        return call.read_json(text.encode("utf-8", "surrogateescape"))
    except DecodeError as error:
        what = "--json is not a JSON object"
        problem = Problem("data", what, error.detail, f"use {_EXAMPLE}", Exit.DATA)
        raise ProblemError(problem) from None


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        fix = "use ISO 8601 with a time zone, such as 2030-01-31T08:00:00Z"
        raise usage("--due-at is not an instant", f"it is {text!r}", fix) from None


def _refusal(answer: Shed) -> Problem:
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
    return Problem("shed", "the job was refused, nothing was written", why, fix, code)
