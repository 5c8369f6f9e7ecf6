"""What a worker's report tells an operator, as texts for a terminal and a page."""

from __future__ import annotations

from typing import Final, NamedTuple

from shifter.ops.status import Overview
from shifter.ops.texts import age_text
from shifter.ports import WorkerReport

SHOWN_WORKERS: Final = 50
"""Workers on the first page of the operator's page."""


class WorkerView(NamedTuple):
    """One worker process as a row; a text is ``None`` where nothing is reported.

    Attributes:
        report: As in the status.
        busy: Attempts that run.
        version: Its release of shifter, and the version of the app.
        slowest: The attempt that has run longest, and for how long.
        progress: How long ago a job ended last.
        seen: How long ago it reported.
    """

    report: WorkerReport
    busy: int
    version: str | None
    slowest: str | None
    progress: str | None
    seen: str | None


def view_workers(overview: Overview | None) -> list[WorkerView]:
    """The first workers of an overview as rows, as many as a page shows."""
    if overview is None:
        return []
    shown = overview.workers[:SHOWN_WORKERS]
    return [view_worker(report, overview.as_of_ms) for report in shown]


def view_worker(report: WorkerReport, now_ms: int) -> WorkerView:
    """One worker as a row.

    Args:
        report: What it reported; its texts are foreign.
        now_ms: When the reports were read, epoch milliseconds.
    """
    version, slowest = report.version, report.slowest
    if version is not None and report.app_version is not None:
        version = f"{version}, app {report.app_version}"
    return WorkerView(
        report=report,
        busy=sum(report.running.values()),
        version=version,
        slowest=None
        if slowest is None
        else f"{slowest.type} for {age_text(slowest.running_s)}, {slowest.job_id}",
        progress=_ago(report.progress_ms, now_ms),
        seen=_ago(report.reported_ms, now_ms),
    )


def _ago(at_ms: int | None, now_ms: int) -> str | None:
    """A time that has passed; clocks may differ, so it is never below 0."""
    if at_ms is None:
        return None
    return f"{age_text(max(0, now_ms - at_ms) / 1_000)} ago"
