"""`shifter dlt replay|discard`: send dead letters back, or mark them as handled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterable

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.dlt import (
    NO_CHOICE,
    Choice,
    note_unknown,
    triage_of,
    write_groups,
)
from shifter.cli.output import note, write_json, write_line, write_table
from shifter.cli.problem import Exit, usage
from shifter.cli.progress import scan_progress
from shifter.cli.session import InSession, consent, need_log, need_state
from shifter.config import Settings
from shifter.deadletter.dead_letters import DeadLetters
from shifter.deadletter.gate import StopPolicy
from shifter.deadletter.journal import Run
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.plan import ANY_ORIGIN, Forecast, ReplayPolicy
from shifter.deadletter.reader import OnProgress, Selection
from shifter.deadletter.triage import Triage
from shifter.errors import ConfigError
from shifter.model.time import duration_ms
from shifter.ops.dead_letters import run_facts
from shifter.ops.operator import who
from shifter.wiring.dead_letters import (
    opened_dead_letters,
    opened_letter_reader,
    opened_run,
)


def dlt_replay(  # noqa: PLR0913  # one parameter an option
    source: str | None = None,
    /,
    *,
    choice: Choice = NO_CHOICE,
    limit: int | None = None,
    rate: float | None = None,
    slow_start: str = "5s",
    full_speed: bool = False,
    target: tuple[str, ...] = (),
    reset_attempts: bool = False,
    deadline: str | None = None,
    max_replays: int = 3,
    stop_ratio: float = 0.5,
    reason: str = "",
    name: str | None = None,
    resume: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
    session: InSession,
) -> int:
    """Send dead letters back to their topics, each of them once.

    It shows first what would go where, and asks. It ends with 3 when something that was
    selected stayed behind, or when the run stopped; --resume continues it.

    Example: shifter dlt replay mail --filter 'error == "SMTPError"' --rate 50 --dry-run

    Args:
        source: A queue of the namespace, or any topic.
        choice: Which dead letters are meant.
        limit: Send at most N dead letters.
        rate: Send at most N dead letters a second.
        slow_start: How long the run takes to reach that rate.
        full_speed: Do not slow down for live jobs of the lanes that dead letters go to.
        target: TOPIC for all dead letters, or ORIGIN=TOPIC; may be repeated.
        reset_attempts: Give each job all its attempts again, instead of one.
        deadline: Give each job a new deadline this long after the replay, such as 6h.
        max_replays: Park a dead letter that was replayed this many times.
        stop_ratio: Stop when this share of the replays fails again; above 1 never.
        reason: Why, for the audit record.
        name: Name of the run; a new one by default.
        resume: Resume the run with its original filter and options.
        dry_run: Show what would be done, and do nothing.
        yes: Do not ask.
        json: Print one JSON object.
        session: This command line.
    """
    settings = need_state(session.settings())
    pace = _pace(rate, slow_start, yields=not full_speed)
    stop = StopPolicy(ratio=stop_ratio)
    if resume is not None:
        run = asyncio.run(_resume(settings, source, resume, pace, stop))
        return _report(run, as_json=json)
    if source is None:
        raise usage(
            "a source is missing", "only --resume works without one", "add a queue"
        )
    selection = choice.selection(SystemClock())
    policy = _policy(target, deadline, max_replays, reset_attempts=reset_attempts)
    _check_limit(limit)
    if dry_run or not yes:
        forecast, kinds = asyncio.run(
            _forecast(settings, source, selection, policy, limit)
        )
        if json and dry_run:
            groups = msgspec.to_builtins(kinds.groups())
            write_json({**msgspec.to_builtins(forecast), "groups": groups})
        else:
            _write_forecast(forecast, kinds, source)
        if not forecast.selected:
            note_unknown(settings, source, selection)
        if dry_run or not forecast.moved:
            return Exit.OK
        consent(f"{forecast.moved} dead letters of {source} go back", yes=yes)
    return _act(
        settings,
        source,
        selection,
        "replaying",
        lambda letters, bar: letters.replay(
            selection,
            reason=reason,
            by=who(),
            name=name,
            limit=limit,
            policy=policy,
            pace=pace,
            stop=stop,
            on_progress=bar,
        ),
        as_json=json,
    )


def dlt_discard(  # noqa: PLR0913  # one parameter an option
    source: str,
    /,
    *,
    choice: Choice = NO_CHOICE,
    reason: str,
    limit: int | None = None,
    name: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
    json: bool = False,
    session: InSession,
) -> int:
    """Mark dead letters as handled without replaying them.

    The log keeps them until its retention removes them.

    Example: shifter dlt discard mail --since 6h --reason "test orders"

    Args:
        source: A queue of the namespace, or any topic.
        choice: Which dead letters are meant.
        reason: Why, for the audit record.
        limit: Discard at most N dead letters.
        name: Name of the run; a new one by default.
        dry_run: Show what would be done, and do nothing.
        yes: Do not ask.
        json: Print one JSON object.
        session: This command line.
    """
    settings = need_state(session.settings())
    if not reason.strip():
        raise usage("--reason is empty", "a discard is audited", "say why")
    selection = choice.selection(SystemClock())
    _check_limit(limit)
    if dry_run or not yes:
        found = asyncio.run(triage_of(settings, source, selection))
        groups = found.groups()
        count = sum(group.count for group in groups)
        count = count if limit is None else min(count, limit)
        if json and dry_run:
            write_json({"selected": count, "groups": msgspec.to_builtins(groups)})
        else:
            write_groups(found, groups, empty=f"nothing selected in {source}")
        if not count:
            note_unknown(settings, source, selection)
        if dry_run or not count:
            return Exit.OK
        consent(f"{count} dead letters of {source} are discarded", yes=yes)
    return _act(
        settings,
        source,
        selection,
        "discarding",
        lambda letters, bar: letters.discard(
            selection,
            reason=reason,
            by=who(),
            name=name,
            limit=limit,
            on_progress=bar,
        ),
        as_json=json,
    )


def _write_forecast(forecast: Forecast, kinds: Triage, source: str) -> None:
    """Write what a replay would do, as two tables."""
    rows: list[tuple[object, ...]] = [
        ("send", topic, count) for topic, count in sorted(forecast.sent.items())
    ]
    if forecast.parked:
        rows.append(("park", "replayed too often", forecast.parked))
    rows += [
        ("skip", reason, count) for reason, count in sorted(forecast.skipped.items())
    ]
    write_table(("action", "where or why", "count"), rows, empty=f"nothing in {source}")
    if forecast.moved:
        write_line()
        write_groups(kinds, kinds.groups(), empty="")


def _report(run: Run, *, as_json: bool) -> int:
    if as_json:
        write_json(run_facts(run))
    else:
        rows = [(name, count) for name, count in sorted(run.counts.items()) if count]
        is_done = run.state == "done"
        empty = "nothing was to be done" if is_done else "nothing was done yet"
        write_table(("what", "count"), rows, empty=empty)
        note(f"run {run.begun.run}: {run.state}{run.why and f', {run.why}'}")
        if run.state != "done":
            note(f"resume with: shifter dlt replay --resume {run.begun.run}")
    left = sum(
        count
        for name, count in run.counts.items()
        if name == "refused" or name.startswith("skipped:")
    )
    return Exit.PARTIAL if left or run.state != "done" else Exit.OK


async def _forecast(
    settings: Settings,
    source: str,
    selection: Selection,
    policy: ReplayPolicy,
    limit: int | None,
) -> tuple[Forecast, Triage]:
    async with opened_letter_reader(need_log(settings), source) as reader:
        with scan_progress("reading", SystemClock()) as bar:
            return await reader.forecast(
                selection, policy, limit=limit, on_progress=bar
            )


def _act(
    settings: Settings,
    source: str,
    selection: Selection,
    what: str,
    act: Callable[[DeadLetters, OnProgress], Awaitable[Run]],
    *,
    as_json: bool,
) -> int:
    """Act on selected dead letters of a source, show how far it is, and report the run.

    Args:
        settings: Settings of the command.
        source: A queue of the namespace, or any topic.
        selection: Which dead letters are meant; noted if the source has none of them.
        what: The verb that the progress bar shows.
        act: Starts the run, given the dead letters and the progress bar.
        as_json: Report as one JSON object.

    Returns:
        The exit code.
    """

    async def acted() -> Run:
        async with opened_dead_letters(need_log(settings), source) as letters:
            with _interruptible(), scan_progress(what, SystemClock()) as bar:
                return await act(letters, bar)

    run = asyncio.run(acted())
    if not run.counts:
        note_unknown(settings, source, selection)
    return _report(run, as_json=as_json)


async def _resume(
    settings: Settings,
    source: str | None,
    name: str,
    pace: PacePolicy,
    stop: StopPolicy,
) -> Run:
    def waits(seconds: float) -> None:
        note(f"another process held the topic: looking again in {seconds:.1f} s")

    async with opened_run(need_log(settings), name, source) as (letters, history):
        with _interruptible(), scan_progress("replaying", SystemClock()) as bar:
            return await letters.resume(
                name,
                by=who(),
                pace=pace,
                stop=stop,
                on_progress=bar,
                on_wait=waits,
                history=history,
            )


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Note how to resume a run that is interrupted."""
    try:
        yield
    except asyncio.CancelledError:
        note("interrupted: dlt runs names the run, dlt replay --resume RUN resumes it")
        raise


def _pace(rate: float | None, slow_start: str, *, yields: bool) -> PacePolicy:
    slow_start_s = duration_ms("--slow-start", slow_start) / 1_000
    try:
        return PacePolicy(rate_per_s=rate, slow_start_s=slow_start_s, yields=yields)
    except ValueError:
        raise ConfigError("--rate", rate, "use letters a second, above 0") from None


def _policy(
    targets: Iterable[str],
    deadline: str | None,
    max_replays: int,
    *,
    reset_attempts: bool,
) -> ReplayPolicy:
    if max_replays < 1:
        raise ConfigError("--max-replays", max_replays, "use 1 or more")
    by_origin: dict[str, str] = {}
    for text in targets:
        origin, equals, topic = text.rpartition("=")
        if (equals and not origin) or not topic or (origin or ANY_ORIGIN) in by_origin:
            want = "use TOPIC, or ORIGIN=TOPIC, each origin once"
            raise ConfigError("--target", text, want)
        by_origin[origin or ANY_ORIGIN] = topic
    return ReplayPolicy(
        targets=by_origin,
        reset_attempts=reset_attempts,
        max_replays=max_replays,
        deadline_ms=None
        if deadline is None
        else duration_ms("--deadline", deadline, minimum_ms=1),
    )


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise usage("--limit is too small", f"it is {limit}", "use 1 or more")
