"""`shifter doctor`, `topics` and `config`: what a deployment needs, and what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.output import (
    note,
    write_json,
    write_line,
    write_rows,
    write_table,
)
from shifter.cli.problem import Exit, explain
from shifter.cli.session import InSession, need_log
from shifter.errors import ShifterError
from shifter.model.advice import OK, Finding
from shifter.model.time import duration_ms
from shifter.ops.doctor import check_topics, examine, failed_checks
from shifter.ports import TopicChange, TopicSpec

_FINDINGS: Final = ("check", "status", "found")
_CHANGES: Final = ("topic", "action", "detail")


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
        findings += asyncio.run(check_topics(app, target))
    _write_findings(findings, as_json=json)
    failed = failed_checks(findings)
    if failed & {"log", "state"}:
        return Exit.UNAVAILABLE
    return Exit.PARTIAL if failed else Exit.OK


def topics_plan(target: str, /, *, json: bool = False, session: InSession) -> None:
    """Show every topic that an app needs, and what `apply` would change.

    Nothing is changed.

    Example: shifter topics plan shop.jobs:app

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    specs, changes = asyncio.run(_look(session.app(target), apply=False))
    touched = {change.topic for change in changes}
    kept = [
        TopicChange(spec.name, "keep", f"{spec.partitions} partitions or more")
        for spec in specs
        if spec.name not in touched
    ]
    _write_changes(sorted([*changes, *kept]), as_json=json)


def topics_apply(target: str, /, *, json: bool = False, session: InSession) -> int:
    """Create the missing topics of an app, and widen those that are narrow.

    No topic is narrowed or deleted. It ends with 3 when a change is left to a person.

    Example: shifter topics apply shop.jobs:app

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    _, changes = asyncio.run(_look(session.app(target), apply=True))
    _write_changes(changes, as_json=json)
    needs_person = any(change.action == "warn" for change in changes)
    return Exit.PARTIAL if needs_person else Exit.OK


def topics_diff(target: str, /, *, json: bool = False, session: InSession) -> int:
    """Show only the topics that differ from what an app needs.

    It ends with 1 when one differs; notes, which the owner of the brokers may follow,
    do not count.

    Example: shifter topics diff shop.jobs:app --json

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    _, changes = asyncio.run(_look(session.app(target), apply=False))
    _write_changes(changes, as_json=json)
    differs = any(change.action != "note" for change in changes)
    return Exit.FAILURE if differs else Exit.OK


def config_show(
    *, origin: bool = False, json: bool = False, session: InSession
) -> None:
    """Show all settings; secrets are masked.

    Example: shifter config show --origin

    Args:
        origin: Show where each value comes from.
        json: Print one JSON object: name to value and origin.
        session: This command line.
    """
    shown = list(session.settings().shown())
    facts = {name: {"value": value, "origin": came} for name, value, came in shown}
    columns = ("setting", "value", "origin") if origin else ("setting", "value")
    rows = [row[: len(columns)] for row in shown]
    write_rows(columns, rows, facts, as_json=json, empty="no settings")


def _explained(error: ShifterError) -> tuple[str, str]:
    problem = explain(error)
    if problem is None:
        raise error
    # The fix of an unavailable store is this very command.
    fix = problem.fix.replace(": shifter doctor", "")
    return f"{problem.what}: {problem.why}", fix


def _write_findings(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        is_ok = not failed_checks(findings)
        write_json(
            {"ok": is_ok, "findings": [finding._asdict() for finding in findings]}
        )
        return
    rows = [(finding.name, finding.status, finding.detail) for finding in findings]
    write_table(_FINDINGS, rows, empty="nothing was checked")
    fixes = [finding for finding in findings if finding.status != OK]
    if fixes:
        write_line()
    for finding in fixes:
        write_line(f"fix {finding.name}: {finding.fix}")


async def _look(
    app: Shifter, *, apply: bool
) -> tuple[list[TopicSpec], list[TopicChange]]:
    specs = wiring.topic_specs(app.settings, app.queues)
    async with wiring.opened_admin(need_log(app.settings)) as admin:
        change = admin.apply if apply else admin.diff
        return specs, await change(specs)


def _write_changes(changes: Sequence[TopicChange], *, as_json: bool) -> None:
    facts = [change._asdict() for change in changes]
    empty = "every topic is as it should be"
    write_rows(_CHANGES, changes, facts, as_json=as_json, empty=empty)
    actions = set() if as_json else {change.action for change in changes}
    if "warn" in actions:
        note("'warn' is left to a person: shifter never narrows or deletes a topic")
    if "note" in actions:
        note("'note' is a setting of the brokers, which their owner can change")
