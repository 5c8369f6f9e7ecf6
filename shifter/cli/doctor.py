"""``shifter doctor``: what is wrong here, and how to mend it."""

from __future__ import annotations

import asyncio

from shifter.adapters.system import SystemClock
from shifter.cli.output import write_json, write_line, write_table
from shifter.cli.problem import Exit, explain
from shifter.cli.session import InSession
from shifter.errors import ShifterError
from shifter.model.advice import OK, Finding
from shifter.model.time import duration_ms
from shifter.ops.doctor import examine, examine_topics, failed_checks

_COLUMNS = ("check", "status", "found")


def doctor(
    target: str | None = None,
    /,
    *,
    wait: str = "0s",
    json: bool = False,
    session: InSession,
) -> int:
    """Check log, state store, topics and versions, each finding with its fix.

    It ends with 0 when no check failed, with 69 when the log or the state store does
    not answer, and with 3 when another check failed.

    Example: shifter doctor shop.jobs:app --wait 60s

    Args:
        target: MODULE:APP whose topics are checked too.
        wait: How long to wait until log and state store answer, such as 60s.
        json: Print one JSON object.
        session: This command line.
    """
    wait_s = duration_ms("--wait", wait) / 1_000
    app = None if target is None else session.app(target)
    settings = session.settings() if app is None else app.settings
    findings = asyncio.run(
        examine(settings, SystemClock(), wait_s=wait_s, explain=_explained)
    )
    if app is not None and target is not None and "log" not in failed_checks(findings):
        findings += asyncio.run(examine_topics(app, target))
    _write(findings, as_json=json)
    failed = failed_checks(findings)
    if failed & {"log", "state"}:
        return Exit.UNAVAILABLE
    return Exit.PARTIAL if failed else Exit.OK


def _explained(error: ShifterError) -> tuple[str, str]:
    problem = explain(error)
    if problem is None:
        raise error
    # The fix of an unavailable store is this very command.
    fix = problem.fix.replace(": shifter doctor", "")
    return f"{problem.what}: {problem.why}", fix


def _write(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        is_ok = not failed_checks(findings)
        write_json(
            {"ok": is_ok, "findings": [finding._asdict() for finding in findings]}
        )
        return
    rows = [(finding.name, finding.status, finding.detail) for finding in findings]
    write_table(_COLUMNS, rows, empty="nothing was checked")
    fixes = [finding for finding in findings if finding.status != OK]
    if fixes:
        write_line()
    for finding in fixes:
        write_line(f"fix {finding.name}: {finding.fix}")
