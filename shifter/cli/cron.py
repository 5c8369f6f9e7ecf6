"""`shifter cron`: the cron jobs of a fleet; run one now, pause it, or resume it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from shifter.adapters.system import SystemClock
from shifter.cli.audit import record_action
from shifter.cli.output import note, write_line, write_rows
from shifter.cli.session import InSession, Session, need_state
from shifter.config import Settings
from shifter.model.time import duration_ms
from shifter.ops.crons import (
    CronRow,
    declared_crons,
    pause_cron,
    read_crons,
    resume_cron,
    run_cron,
)
from shifter.ops.operator import who
from shifter.ops.overrides import Override
from shifter.ops.texts import age_text, instant_text

_HEADINGS: Final = (
    *("job", "schedule", "zone", "workers", "last", "outcome", "next", "paused"),
)
# A shorter pause would end before most workers have read it.
_LEAST_MS: Final = 1_000


def cron_list(
    target: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show cron jobs: when each fired last, how that ended, and when it fires next.

    Example: shifter cron list --json

    Args:
        target: MODULE:APP whose cron jobs are shown also while no worker lives.
        json: Print one JSON array.
        session: This command line.
    """
    declared: Mapping[str, str] = {}
    if target is None:
        settings = session.settings()
    else:
        app = session.app(target)
        declared, settings = declared_crons(app), app.settings
    rows = asyncio.run(read_crons(need_state(settings), declared))
    shown, empty = [_cells(row) for row in rows], "no live worker has a cron job"
    write_rows(_HEADINGS, shown, rows, as_json=json, empty=empty)


def cron_run(name: str, /, *, reason: str = "", session: InSession) -> None:
    """Run a cron job once, now, and print the id of its job.

    A worker writes the job to its lane, like a firing by the clock. A job that is
    paused runs too, and its next firing stays as it is.

    Example: shifter cron run digest --reason "the one of tonight failed"

    Args:
        name: Name of the job.
        reason: Why, kept in the stream of events.
        session: This command line.
    """
    settings, clock = _settings(session), SystemClock()
    asked = run_cron(settings, name, owner=who(), reason=reason, clock=clock)
    job_id = asyncio.run(asked)
    record_action(settings, f"cron run {name}", reason, job_id)
    write_line(job_id)


def cron_pause(
    name: str, /, *, reason: str, for_: str = "24h", session: InSession
) -> None:
    """Let a cron job not fire, for a while.

    Workers obey within about two seconds. A firing that falls into the pause is
    skipped, and not made up for.

    Example: shifter cron pause digest --reason "the reports are wrong" --for 3d

    Args:
        name: Name of the job.
        reason: Why, shown with the pause.
        for_: How long the pause holds; then it ends by itself.
        session: This command line.
    """
    settings = _settings(session)
    lasts_ms = duration_ms("--for", for_, minimum_ms=_LEAST_MS)
    override = Override("pause", who(), reason, lasts_ms)
    asyncio.run(pause_cron(settings, name, override))
    note(f"{name}: paused for {for_}, by {override.owner}: {reason}")
    record_action(settings, f"cron pause {name} for {for_}", reason)


def cron_resume(name: str, /, *, session: InSession) -> None:
    """End the pause of a cron job.

    Example: shifter cron resume digest

    Args:
        name: Name of the job.
        session: This command line.
    """
    settings = _settings(session)
    asyncio.run(resume_cron(settings, name))
    note(f"{name}: fires by its schedule")
    record_action(settings, f"cron resume {name}")


def _settings(session: Session) -> Settings:
    return need_state(session.settings())


def _cells(row: CronRow) -> tuple[object, ...]:
    last, paused = None, None
    if row.last_ms is not None:
        by = "" if row.last_by is None else f" by {row.last_by}"
        last = f"{instant_text(row.last_ms)}{by}"
    if row.paused is not None:
        left = age_text(row.paused.left_s)
        paused = f"{row.paused.owner}, {left} more: {row.paused.reason}"
    return (
        row.name,
        row.schedule,
        row.tz,
        row.workers,
        last,
        row.outcome,
        None if row.next_ms is None else instant_text(row.next_ms),
        paused,
    )
