"""``shifter job show|cancel``."""

from __future__ import annotations

import asyncio
from typing import Any

from shifter.cli.output import write_json, write_table
from shifter.cli.problem import Exit, Problem, ProblemError, usage
from shifter.cli.session import InSession, need_state
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import canonical_id
from shifter.ops.jobs import cancel_job, job_status


def show(id_: str, /, *, json: bool = False, session: InSession) -> None:
    """Show the state of a job.

    A job has a state from its first start on, for as long as its `keep_status`.

    Example: shifter job show 018f0000-0000-7000-8000-000000000000

    Args:
        id_: Id of the job, a UUID.
        json: Print one JSON object.
        session: This command line.
    """
    job_id = _job_id(id_)
    status = asyncio.run(job_status(need_state(session.settings()), job_id))
    if status is None:
        raise ProblemError(
            Problem(
                "unknown_job",
                f"nothing is known of job {job_id}",
                "no job has it, or its state is forgotten or was never recorded",
                "see waiting jobs with: shifter status; keep states longer with "
                "@app.job(keep_status=…)",
                Exit.FAILURE,
            )
        )
    _write(status, as_json=json)


def cancel(id_: str, /, *, json: bool = False, session: InSession) -> None:
    """Ask that a job not run, or not run again.

    A job that has ended keeps its end, and the command ends with 1.

    Example: shifter job cancel 018f0000-0000-7000-8000-000000000000

    Args:
        id_: Id of the job, a UUID.
        json: Print one JSON object.
        session: This command line.
    """
    job_id = _job_id(id_)
    status = asyncio.run(cancel_job(need_state(session.settings()), job_id))
    if status.state.is_terminal and status.state is not JobState.CANCELLED:
        raise ProblemError(
            Problem(
                "too_late",
                f"job {job_id} cannot be cancelled",
                f"it has ended as {status.state.value!r}",
                f"see: shifter job show {job_id}",
                Exit.FAILURE,
            )
        )
    _write(status, as_json=json)


def _job_id(text: str) -> str:
    job_id = canonical_id(text)
    if job_id is None:
        fix = "use the UUID that submit printed"
        raise usage("ID is not a job's id", f"it is {text!r}", fix)
    return job_id


def _write(status: JobStatus, *, as_json: bool) -> None:
    facts: dict[str, Any] = {**status._asdict(), "state": status.state.value}
    if as_json:
        write_json(facts)
    else:
        write_table(tuple(facts), [tuple(facts.values())], empty="")
