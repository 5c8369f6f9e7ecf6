"""`shifter dlt list|runs`, and how all dlt verbs select and find dead letters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
from cyclopts import Parameter

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.cli.output import (
    blocks_are_shown,
    escape,
    note,
    write_json,
    write_rows,
    write_table,
)
from shifter.cli.problem import Exit, ProblemError, usage
from shifter.cli.progress import scan_progress
from shifter.cli.session import InSession, need_log
from shifter.config import Settings
from shifter.deadletter.filter import compile_filter, named_fingerprints
from shifter.deadletter.filter_lexer import instant_ms
from shifter.deadletter.journal import Journal, Run
from shifter.deadletter.letter import Letter
from shifter.deadletter.reader import (
    LetterReader,
    OnProgress,
    Selection,
)
from shifter.deadletter.triage import MAX_GROUPS, FailureGroup, Triage, brief
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.job import canonical_id
from shifter.model.time import duration_ms
from shifter.ops.dead_letters import run_facts
from shifter.ops.sparkline import sparkline
from shifter.ops.texts import instant_text
from shifter.ports import Clock, Delivery
from shifter.wiring.dead_letters import opened_letter_reader

COLUMNS: Final = (
    *("count", "reason", "error", "message", "first seen", "last seen", "course"),
    *("sample", "fingerprint"),
)
_RUN_COLUMNS: Final = (
    *("run", "action", "source", "state", "counts", "by", "begun", "reason", "filter"),
)
# Characters and columns that let a group fit on one line of a wide terminal.
_MESSAGE: Final = 60
_SPARK: Final = 12
# Bounded digits: a partition and an offset of Kafka fit into them.
_OFFSETS: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,18})-([0-9]{1,18})\Z")


class Place(NamedTuple):
    """A position in a topic."""

    partition: int
    offset: int


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which dead letters are meant.

    Attributes:
        filter: Condition such as 'error == "SMTPError" and age < 6h and
            payload.order_id > 10'.
        since: Appended at or after this: 6h ago, or 2026-01-31T08:00:00Z.
        until: Appended before this: 6h ago, or 2026-01-31T08:00:00Z.
        offsets: PARTITION:FIRST-LAST, both included; may be repeated.
        all: Include those that a replay, a discard or an edit has handled.
    """

    filter: str = ""
    since: str | None = None
    until: str | None = None
    offsets: tuple[str, ...] = ()
    all: bool = False

    def selection(self, clock: Clock) -> Selection:
        """The selection, as the library takes it.

        Raises:
            FilterError, ConfigError: An option cannot be read.
        """
        compile_filter(self.filter)
        parts = dict(_offsets(text) for text in self.offsets)
        return Selection(
            filter=self.filter,
            since_ms=_instant("--since", self.since, clock),
            until_ms=_instant("--until", self.until, clock),
            parts=parts or None,
            again=self.all,
        )


NO_CHOICE: Final = Choice()


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
    rows, facts = (
        [_run_row(each) for each in found],
        [run_facts(each) for each in found],
    )
    write_rows(_RUN_COLUMNS, rows, facts, as_json=json, empty="no runs")


def write_groups(found: Triage, groups: list[FailureGroup], *, empty: str) -> None:
    """Write groups of dead letters as a table, each with its course over time.

    Args:
        found: All groups; they set the time that the courses span.
        groups: The groups to show, in this order.
        empty: Shown if there are none.
    """
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


async def _runs(settings: Settings, name: str | None) -> list[Run]:
    from shifter.deadletter.dead_letters import find_run  # noqa: PLC0415

    async with wiring.opened_admin(need_log(settings)) as admin:
        history = await Journal(admin, settings.namespace).load()
    return list(history.runs.values()) if name is None else [find_run(history, name)]


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


async def triage_of(settings: Settings, source: str, selection: Selection) -> Triage:
    """Group the selected dead letters by failure; shows progress.

    Args:
        settings: The command's settings.
        source: Topic of the dead letters.
        selection: Which of them.
    """
    async with opened_letter_reader(need_log(settings), source) as reader:
        with scan_progress("reading", SystemClock()) as bar:
            return await reader.triage(selection, bar)


def note_unknown(settings: Settings, source: str, selection: Selection) -> None:
    """Note each fingerprint of a filter that no dead letter has, and the nearest.

    Args:
        settings: The command's settings.
        source: Topic of the dead letters.
        selection: The selection that has the filter.
    """
    named = named_fingerprints(selection.filter)
    if not named:
        return
    found = asyncio.run(triage_of(settings, source, selection._replace(filter="")))
    known = [group.fingerprint for group in found.groups()]
    for name in named:
        if name not in known:
            hint = nearest(name, known, "fingerprints")
            note(f"no open dead letter has fingerprint {name!r}: {hint}")


async def letter_at(settings: Settings, source: str, which: str) -> Delivery:
    """Find one dead letter; shows progress.

    Args:
        settings: The command's settings.
        source: Topic of the dead letters.
        which: A job's id, a fingerprint, or PARTITION/OFFSET; see `_find`.
    """
    async with opened_letter_reader(need_log(settings), source) as reader:
        with scan_progress("reading", SystemClock()) as bar:
            return await _find(reader, which, bar)


async def _find(reader: LetterReader, which: str, bar: OnProgress) -> Delivery:
    """The newest letter of a job's id or fingerprint, or that at PARTITION/OFFSET.

    Args:
        reader: Dead letters of one topic.
        which: A job's id, a fingerprint, or PARTITION/OFFSET.
        bar: Called with the progress.

    Raises:
        ProblemError: The name has another form, or no letter has it.
    """
    selection, wanted = Selection(again=True), _wanted(which)
    place = parse_place(which)
    if place is not None:
        bounds = {place.partition: (place.offset, place.offset + 1)}
        selection = selection._replace(parts=bounds)
    found, others = None, set[str]()
    async for letter in reader.letters(selection, bar):
        if wanted(letter):
            found = letter.delivery
        elif found is None and len(others) < MAX_GROUPS:
            others.add(brief(letter.delivery)[0])
    if found is not None:
        return found
    is_named = place is None and which.isalnum()
    raise ProblemError(
        "unknown_dead_letter",
        f"{reader.source} holds no dead letter {which}",
        "it was never there, or its retention has passed",
        nearest(which, others, "fingerprints")
        if is_named
        else f"shifter dlt list {reader.source}",
        Exit.FAILURE,
    )


def parse_place(text: str) -> Place | None:
    """A ``partition/offset``; ``None`` if it is none.

    >>> parse_place("0/42"), parse_place("-1/42"), parse_place("x")
    (Place(partition=0, offset=42), None, None)
    """
    partition, slash, offset = text.partition("/")
    if slash and _is_count(partition, 9) and _is_count(offset, 18):
        return Place(int(partition), int(offset))
    return None


def _wanted(which: str) -> Callable[[Letter], bool]:
    """A test for the letter of a name: a place, a job's id, or a fingerprint."""
    if parse_place(which) is not None:
        return lambda _: True
    job_id = canonical_id(which)
    if job_id is None:
        if which.isalnum():
            return lambda letter: brief(letter.delivery)[0] == which
        fix = "use the id of a job, a fingerprint, or partition/offset such as 0/42"
        raise usage("not a dead letter's name", f"it is {which!r}", fix)
    return lambda letter: letter.story.job_id == job_id


def _instant(flag: str, text: str | None, clock: Clock) -> int | None:
    if text is None:
        return None
    at_ms = instant_ms(text) if "-" in text else None
    if at_ms is not None:
        return at_ms
    try:
        return clock.epoch_ms() - duration_ms(flag, text)
    except ConfigError:
        want = "use a span such as 6h, or an instant such as 2026-01-31T08:00:00Z"
        raise ConfigError(flag, text, want) from None


def _offsets(text: str) -> tuple[int, tuple[int, int]]:
    match = _OFFSETS.match(text)
    if match is None:
        raise ConfigError(
            "--offsets", text, "use PARTITION:FIRST-LAST, such as 0:100-199"
        )
    part, first, last = (int(digits) for digits in match.groups())
    return part, (first, last + 1)


def _is_count(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
