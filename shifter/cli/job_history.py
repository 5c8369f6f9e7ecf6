"""`shifter job show` and `job list`: what happened to jobs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Generator
from dataclasses import asdict
from typing import Any, Final

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.job import read_job_id, state_app
from shifter.cli.output import (
    note,
    warn,
    write_json,
    write_line,
    write_table,
)
from shifter.cli.problem import Exit, ProblemError, usage
from shifter.cli.progress import ProgressDisplay, Reading
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import canonical_id
from shifter.model.time import duration_ms
from shifter.ops.event_scan import OnProgress, ScanExtent
from shifter.ops.job_history import (
    Entry,
    JobFilter,
    JobHistory,
    JobList,
)
from shifter.ops.job_reader import JobReader
from shifter.ops.texts import instant_text

_STORY: Final = ("time", "event", "attempt", "details")
_LIST: Final = ("time", "job_id", "job", "queue", "state", "attempt", "worker", "error")
_SHOWN_AFTER_S: Final = 1.0
_INSTANTS: Final = frozenset({"at_ms", "until_ms"})
_APART: Final = frozenset({"at_ms", "event", "attempt", "process", "fingerprint"})


def job_show(id_: str, /, *, json: bool = False, session: InSession) -> None:
    """Show the state and the history of a job.

    A job has a state for as long as its `keep_status`. Of a job that runs now the last
    entry is the attempt that runs, with its worker; of one that waits, its lane. What
    happened before is read from the topic of events, which keeps, by default, 24 h of
    jobs that failed or were slow; the setting `events` chooses which jobs are recorded.

    Example: shifter job show 018f0000-0000-7000-8000-000000000000

    Args:
        id_: Id of the job, a UUID.
        json: Print one JSON object.
        session: This command line.
    """
    job_id = read_job_id(id_)
    app = state_app(session)
    status = asyncio.run(app.status(job_id))
    history = asyncio.run(_history(app.settings, job_id, status))
    status = status or _past(history)
    if status is None:
        raise ProblemError(
            "unknown_job",
            f"nothing is known of job {job_id}",
            "no job has it, or its state is forgotten or was never recorded",
            "see waiting jobs with: shifter status; keep states longer with "
            "@app.job(keep_status=…), and record every job with events=all",
            Exit.FAILURE,
        )
    facts: dict[str, Any] = {**status._asdict(), "state": status.state.value}
    if json:
        write_json(facts | {"story": history.story, **_extent(history.extent)})
        return
    write_table(tuple(facts), [tuple(facts.values())], empty="")
    if history.story:
        write_line()
    rows = [_row(entry) for entry in history.story]
    write_table(_STORY, rows, empty="no event of this job is recorded")
    _note_cut(history.extent)


def job_list(  # noqa: PLR0913  # one parameter an option
    *,
    queue: str | None = None,
    state: JobState | None = None,
    error: str | None = None,
    since: str = "1h",
    limit: int = 100,
    after: str | None = None,
    json: bool = False,
    session: InSession,
) -> None:
    """List jobs that wait or run, and those that ended lately.

    Jobs that wait or run are found in their lanes: the first 1,000 of each lane,
    which start next, whatever --since is; the state store tells which of them run.
    Other jobs are found in the topic of events. The newest come first.

    Example: shifter job list --queue mail --state dead --error Timeout --since 6h

    Args:
        queue: Only jobs of this queue.
        state: Only jobs that are in this state, or came to it.
        error: Only jobs whose error has this text in its class or message, or has this
            fingerprint.
        since: Only jobs with an event in the last so long, such as 30m or 24h.
        limit: List at most so many jobs.
        after: Only jobs that come after this one in the list, as TIME:ID: the `at_ms`
            and the `job_id` of the last job of the page before.
        json: Print one JSON array.
        session: This command line.
    """
    settings = need_log(session.settings())
    since_ms, place = duration_ms("--since", since), _place(after)
    wanted = JobFilter(queue, state, error, since_ms, limit, place)
    with _progress() as on_progress:
        found = asyncio.run(_list(settings, wanted, on_progress))
    if json:
        write_json([asdict(row) for row in found.jobs])
    else:
        rows = [
            (
                instant_text(row.at_ms),
                row.job_id,
                row.job,
                row.queue,
                row.state,
                row.attempt,
                row.worker or None,
                ": ".join(text for text in (row.error, row.message) if text) or None,
            )
            for row in found.jobs
        ]
        write_table(_LIST, rows, empty="no such job is recorded")
    if found.is_cut:
        at_ms, job_id = found.jobs[-1].place()
        note(
            f"only the newest {limit} are listed; --limit lists more, and "
            f"--after {at_ms}:{job_id} those that follow"
        )
    if found.left_out:
        note(f"{found.left_out} jobs that wait behind others were not looked at")
    _note_cut(found.extent)


async def _history(
    settings: Settings, job_id: str, now: JobStatus | None
) -> JobHistory:
    """The history of a job; none, with a warning, while the log does not answer."""
    nothing = JobHistory(job_id, [], ScanExtent(0, 0))
    if settings.log_url is None:
        warn("no log is configured, so the history of the job is not known")
        return nothing
    try:
        async with wiring.opened_admin(settings) as admin:
            with _progress() as on_progress:
                reader = JobReader(
                    admin, settings.namespace, SystemClock(), on_progress=on_progress
                )
                return await reader.history(job_id, now)
    except ShifterError as error:
        warn(f"the history of the job is not known: {error}")
        return nothing


async def _list(
    settings: Settings, wanted: JobFilter, on_progress: OnProgress
) -> JobList:
    async with contextlib.AsyncExitStack() as held:
        admin = await held.enter_async_context(wiring.opened_admin(settings))
        status = None
        if settings.state_url is not None:
            claims = wiring.open_claims(settings)
            held.push_async_callback(claims.close)
            status = claims.status
        reader = JobReader(
            admin,
            settings.namespace,
            SystemClock(),
            on_progress=on_progress,
            status=status,
        )
        return await reader.jobs(wanted)


def _past(history: JobHistory) -> JobStatus | None:
    """What the history tells of a job whose state is forgotten."""
    state = history.state
    if state is None:
        return None
    if history.is_waiting:
        state = JobState.WAITING
    last_ms = history.story[-1]["at_ms"]
    return JobStatus(history.job_id, state, history.attempt, None, last_ms)


def _place(text: str | None) -> tuple[int, str] | None:
    """A place in a list, as a note about a cut list gives it.

    Raises:
        ProblemError: It is none.
    """
    if text is None:
        return None
    time, _, given = text.partition(":")
    job_id = canonical_id(given)
    if not (time.isascii() and time.isdigit()) or job_id is None:
        fix = "use the one that the list before printed, such as 1764486000123:UUID"
        raise usage("--after is no place in a list", f"it is {text!r}", fix)
    return int(time), job_id


def _row(entry: Entry) -> tuple[object, ...]:
    details = (
        f"{name}={_shown(name, value)}"
        for name, value in entry.items()
        if name not in _APART
    )
    attempt = entry.get("attempt")
    instant = _instant(entry["at_ms"])
    return instant, entry["event"], attempt, " ".join(details) or None


def _shown(name: str, value: object) -> object:
    if name in _INSTANTS and isinstance(value, int):
        return _instant(value)
    if isinstance(value, dict):
        return ",".join(f"{cause}:{ms}" for cause, ms in value.items())
    return value


def _instant(at_ms: int) -> str:
    """An instant with its milliseconds."""
    return instant_text(at_ms).replace("Z", f".{at_ms % 1_000:03d}Z")


def _extent(extent: ScanExtent) -> dict[str, object]:
    return {"story_is_complete": extent.is_complete}


def _note_cut(extent: ScanExtent) -> None:
    if not extent.is_complete:
        note(
            f"only the newest {extent.looked_at} of {extent.total} records of events "
            "were looked at"
        )


@contextlib.contextmanager
def _progress() -> Generator[OnProgress]:
    """Shows how far the reading of events is, once it takes longer than a moment."""

    def line(reading: Reading) -> None:
        note(f"{reading.what}: {reading.numbers}")

    display = ProgressDisplay(
        SystemClock(),
        sys.stderr,
        line,
        bar_after_s=_SHOWN_AFTER_S,
        is_transient=True,
    )

    def show(looked_at: int, total: int) -> None:
        numbers = f"{looked_at}/{total} records"
        display.show(Reading("reading events", looked_at, total, numbers))

    with display:
        yield show
