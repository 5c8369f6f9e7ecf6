"""``shifter doctor``: what is wrong here, and how to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.output import write_json, write_line, write_table
from shifter.cli.problem import Exit, explain
from shifter.cli.session import InSession, need_log, need_state
from shifter.cli.waiting import answered
from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.duration import duration_ms
from shifter.ops.doctor import (
    FAIL,
    OK,
    Finding,
    check_log,
    check_state,
    check_topics,
    check_versions,
)
from shifter.ports import Clock

_COLUMNS = ("check", "status", "found")


def doctor(
    target: str | None = None,
    /,
    *,
    wait: str = "0s",
    json: bool = False,
    session: InSession,
) -> int:
    """Check log, state store, topics and versions; each finding with its fix.

    Ends with 0 when nothing failed, 69 when log or state store are away, else 3.

    Args:
        target: MODULE:APP, whose topics are checked too.
        wait: How long to wait until log and state store answer, such as 60s.
        json: One JSON object.
        session: This command line.
    """
    wait_s = duration_ms("--wait", wait) / 1_000
    app = None if target is None else session.app(target)
    settings = session.settings() if app is None else app.settings
    findings = asyncio.run(_examine(settings, wait_s))
    if app is not None and target is not None and not _failed(findings) & {"log"}:
        findings += asyncio.run(_topics(app, target))
    _write(findings, as_json=json)
    failed = _failed(findings)
    if failed & {"log", "state"}:
        return Exit.UNAVAILABLE
    return Exit.PARTIAL if failed else Exit.OK


async def _examine(settings: Settings, wait_s: float) -> list[Finding]:
    clock = SystemClock()
    until = clock.monotonic() + wait_s
    findings = check_versions()
    findings += await _guarded("log", lambda: _log(settings, clock, until))
    findings += await _guarded("state", lambda: _state(settings, clock, until))
    return findings


async def _log(settings: Settings, clock: Clock, until: float) -> list[Finding]:
    admin = wiring.open_admin(need_log(settings))
    try:
        await answered(admin.ping, clock, until)
        return await check_log(settings, admin)
    finally:
        await admin.close()


async def _topics(app: Shifter, target: str) -> list[Finding]:
    admin = wiring.open_admin(app.settings)
    try:
        return await check_topics(app, admin, target)
    finally:
        await admin.close()


async def _state(settings: Settings, clock: Clock, until: float) -> list[Finding]:
    claims = wiring.open_claims(need_state(settings))
    try:
        await answered(claims.ping, clock, until)
    finally:
        await claims.close()
    return await check_state(settings, clock)


async def _guarded(
    name: str, check: Callable[[], Awaitable[list[Finding]]]
) -> list[Finding]:
    try:
        return await check()
    except ShifterError as error:
        problem = explain(error)
        if problem is None:
            raise
        detail = f"{problem.what}: {problem.why}"
        fix = problem.fix.replace(": shifter doctor", "")
        return [Finding(name, FAIL, detail, fix)]


def _failed(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.status == FAIL}


def _write(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        is_ok = not _failed(findings)
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
