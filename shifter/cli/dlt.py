"""`shifter dlt list|show|runs`: dead letters by failure, one of them, and the runs."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.dlt_letters import (
    NO_CHOICE,
    Choice,
    letter_at,
    note_unknown,
    parse_place,
    triage_of,
    whole,
    write_whole,
)
from shifter.cli.output import (
    blocks_are_shown,
    escape,
    instant_text,
    note,
    write_json,
    write_table,
)
from shifter.cli.problem import usage
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.deadletter.journal import Journal, Run
from shifter.deadletter.triage import FailureGroup, Triage
from shifter.ops.sparkline import sparkline

COLUMNS: Final = (
    *("count", "reason", "error", "message", "first seen", "last seen", "course"),
    *("sample", "fingerprint"),
)
_RUN_COLUMNS: Final = (
    *("run", "action", "source", "state", "counts", "by", "begun", "reason", "filter"),
)
_MESSAGE: Final = 60
_SPARK: Final = 12


def dlt_list(
    source: str,
    /,
    *,
    choice: Choice = NO_CHOICE,
    limit: int = 50,
    json: bool = False,
    session: InSession,
) -> None:
    """Group the dead letters of a queue or topic by their failure.

    Dead letters that a run has handled are left out, unless --all is given.

    Example: shifter dlt list mail --since 6h

    Args:
        source: A queue of the namespace, or any topic.
        choice: Which dead letters are meant.
        limit: Show at most N groups, the largest first.
        json: Print a JSON list of groups.
        session: This command line.
    """
    if limit < 1:
        raise usage("--limit is too small", f"it is {limit}", "use 1 or more")
    selection = choice.selection(SystemClock())
    found = asyncio.run(triage_of(session.settings(), source, selection))
    groups = found.groups()
    if not groups:
        note_unknown(session.settings(), source, selection)
    if json:
        write_json(msgspec.to_builtins(groups[:limit]))
        return
    write_groups(found, groups[:limit], empty=f"no open dead letters in {source}")
    if len(groups) > limit:
        note(
            f"{len(groups) - limit} smaller groups are not shown: --limit {len(groups)}"
        )


def dlt_show(
    source: str, which: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show one dead letter whole: reason, route, stack, headers, payload.

    Example: shifter dlt show mail 0/42

    Args:
        source: A queue of the namespace, any topic, or TOPIC/PARTITION/OFFSET.
        which: Id of its job, a fingerprint (its newest dead letter), or
            PARTITION/OFFSET.
        json: Print one JSON object.
        session: This command line.
    """
    if which is None:
        source, which = _split(source)
    letter = whole(asyncio.run(letter_at(session.settings(), source, which)))
    if json:
        write_json(letter)
    else:
        write_whole(letter)


def dlt_runs(
    run: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show the runs of the namespace: replays, discards, edits and imports.

    Each row has who began the run, why, and how far it came.

    Example: shifter dlt runs --json

    Args:
        run: Name of one run; all runs by default.
        json: Print a JSON list of runs.
        session: This command line.
    """
    found = asyncio.run(_runs(session.settings(), run))
    if json:
        write_json([run_facts(each) for each in found])
        return
    rows = [_run_row(each) for each in found]
    write_table(_RUN_COLUMNS, rows, empty="no runs")


def write_groups(found: Triage, groups: list[FailureGroup], *, empty: str) -> None:
    """Groups as a table, each with its course over the time of all of them."""
    span = found.span_ms
    ascii_only = not blocks_are_shown()
    rows = []
    for group in groups:
        counts = found.course(group.fingerprint).counts(*span, _SPARK)
        course = sparkline(counts, _SPARK, most=max(counts), ascii_only=ascii_only)
        rows.append(
            (
                group.count,
                group.reason,
                group.error,
                escape(group.message, _MESSAGE),
                instant_text(group.first_seen_ms),
                instant_text(group.last_seen_ms),
                course,
                group.sample_job_id,
                group.fingerprint,
            )
        )
    write_table(COLUMNS, rows, empty=empty)


def run_facts(run: Run) -> dict[str, Any]:
    """A run as JSON values."""
    begun = run.begun
    return {
        "run": begun.run,
        "action": begun.action,
        "source": begun.source,
        "state": run.state,
        "why": run.why,
        "counts": run.counts,
        "by": begun.by,
        "reason": begun.reason,
        "filter": begun.filter,
        "file": begun.file,
        "limit": begun.limit,
        "begun_ms": begun.at_ms,
        "last_ms": run.at_ms,
    }


async def _runs(settings: Settings, name: str | None) -> list[Run]:
    from shifter.deadletter.dead_letters import find_run  # noqa: PLC0415

    async with wiring.opened_admin(need_log(settings)) as admin:
        history = await Journal(admin, settings.namespace).load()
    return list(history.runs.values()) if name is None else [find_run(history, name)]


def _split(text: str) -> tuple[str, str]:
    topic, _, rest = text.partition("/")
    if parse_place(rest) is None:
        fix = "add the job's id or PARTITION/OFFSET: shifter dlt show mail 0/42"
        raise usage("no dead letter is named", f"only {text!r} is given", fix)
    return topic, rest


def _run_row(run: Run) -> tuple[object, ...]:
    begun = run.begun
    counts = ", ".join(f"{count} {name}" for name, count in run.counts.items() if count)
    state = f"{run.state}: {run.why}" if run.why else run.state
    return (
        begun.run,
        begun.action,
        begun.source,
        state,
        counts or "-",
        begun.by,
        instant_text(begun.at_ms),
        begun.reason,
        begun.filter or "-",
    )
