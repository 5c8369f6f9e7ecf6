"""`shifter circuit`, `budget`, `quality`, `window`: the fleet, and overrides of it."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from shifter.adapters.system import SystemClock
from shifter.cli.columns import (
    BUDGETS,
    CIRCUITS,
    WINDOWS,
    budget_cells,
    circuit_cells,
    quality_text,
    window_cells,
)
from shifter.cli.consent import who
from shifter.cli.output import note, warn, write_json, write_line, write_table
from shifter.cli.session import InSession, Session, need_state
from shifter.fleet.view import Fleet, WindowRow
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.ops.overrides import (
    Override,
    OverrideTarget,
    circuit_target,
    clear_override,
    declared_windows,
    quality_target,
    read_fleet,
    set_override,
    window_target,
)

_LEAST_MS: Final = 1_000


def list_circuits(*, json: bool = False, session: InSession) -> None:
    """Show the circuit and the calls of every dependency of the fleet.

    Example: shifter circuit list --json

    Args:
        json: Print one JSON array.
        session: This command line.
    """
    fleet = asyncio.run(read_fleet(need_state(session.settings())))
    if json:
        write_json(msgspec.to_builtins(fleet.circuits))
        return
    write_table(CIRCUITS, circuit_cells(fleet.circuits), empty="no dependencies")


def open_circuit(
    dependency: str, *, reason: str, for_: str = "1h", session: InSession
) -> None:
    """Keep all processes from calling a dependency, for a while.

    The circuit stays open, whatever the processes measure, until the time is over or
    `shifter circuit auto` removes the override.

    Example: shifter circuit open mailer --reason "maintenance until noon" --for 2h

    Args:
        dependency: Name of the dependency.
        reason: Why, shown with the override.
        for_: How long the override holds; then the fleet decides again.
        session: This command line.
    """
    _set_circuit(session, dependency, "open", reason, for_)


def close_circuit(
    dependency: str, *, reason: str, for_: str = "1h", session: InSession
) -> None:
    """Let all processes call a dependency, for a while.

    The circuit stays closed, whatever the processes measure, until the time is over or
    `shifter circuit auto` removes the override.

    Example: shifter circuit close mailer --reason "the alarm was false" --for 30m

    Args:
        dependency: Name of the dependency.
        reason: Why, shown with the override.
        for_: How long the override holds; then the fleet decides again.
        session: This command line.
    """
    _set_circuit(session, dependency, "closed", reason, for_)


def auto_circuit(dependency: str, *, session: InSession) -> None:
    """Remove the override of a circuit, so that the fleet decides again.

    Example: shifter circuit auto mailer

    Args:
        dependency: Name of the dependency.
        session: This command line.
    """
    target = circuit_target(dependency)
    _clear(session, target)
    note(f"{target.name}: the fleet decides")


def list_budgets(*, json: bool = False, session: InSession) -> None:
    """Show the retry budget of every dependency of the fleet.

    Example: shifter budget list --json

    Args:
        json: Print one JSON array.
        session: This command line.
    """
    fleet = asyncio.run(read_fleet(need_state(session.settings())))
    if json:
        write_json(msgspec.to_builtins(fleet.budgets))
        return
    write_table(BUDGETS, budget_cells(fleet.budgets), empty="no dependencies")


def show_quality(*, json: bool = False, session: InSession) -> None:
    """Show the quality that the fleet serves at, and the load.

    Example: shifter quality show

    Args:
        json: Print one JSON object.
        session: This command line.
    """
    row = asyncio.run(read_fleet(need_state(session.settings()))).quality
    if json:
        write_json(msgspec.to_builtins(row))
    else:
        write_line(quality_text(row))


def set_quality(
    quality: str, *, reason: str, for_: str = "1h", session: InSession
) -> None:
    """Set the quality of the whole fleet by hand, for a while.

    Example: shifter quality set reduced --reason "a model server is down" --for 2h

    Args:
        quality: FULL, REDUCED or MINIMAL.
        reason: Why, shown with the override.
        for_: How long the override holds; then load decides again.
        session: This command line.
    """
    to = quality.upper()
    fleet = _set(session, quality_target(), to, (reason, for_), is_quiet=True)
    note(quality_text(fleet.quality))


def auto_quality(*, session: InSession) -> None:
    """Remove the override of the quality, so that load decides again.

    Example: shifter quality auto

    Args:
        session: This command line.
    """
    note(quality_text(_clear(session, quality_target()).quality))


def list_windows(
    target: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show overrides of execution windows, and the windows of an app.

    Example: shifter window list shop.jobs:app

    Args:
        target: MODULE:APP whose declared windows are shown too.
        json: Print one JSON array.
        session: This command line.
    """
    declared: list[WindowRow] = []
    if target is not None:
        app = session.app(target)
        declared, settings = declared_windows(app, SystemClock()), app.settings
    else:
        settings = session.settings()
    rows = [*declared, *asyncio.run(read_fleet(need_state(settings))).windows]
    if json:
        write_json(msgspec.to_builtins(rows))
    else:
        write_table(WINDOWS, window_cells(rows), empty="nothing is set by hand")


def open_windows(
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    reason: str,
    for_: str = "1h",
    session: InSession,
) -> None:
    """Let jobs start now, whatever their execution windows are.

    Example: shifter window open-now mail --priority low --reason "a big order"

    Args:
        queue: Queue whose lanes to open; leave it out where --job is given.
        priority: Open only the queue's lane of this priority.
        job: Type of job to open, instead of a queue.
        reason: Why, shown with the override.
        for_: How long the override holds; then the windows count again.
        session: This command line.
    """
    _set(session, window_target(queue, priority, job), "open", (reason, for_))


def close_windows(
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    reason: str,
    for_: str = "1h",
    session: InSession,
) -> None:
    """Start no more jobs, whatever their execution windows are.

    Example: shifter window close-now --job digest --reason "the reports are wrong"

    Args:
        queue: Queue whose lanes to close; leave it out where --job is given.
        priority: Close only the queue's lane of this priority.
        job: Type of job to close, instead of a queue.
        reason: Why, shown with the override.
        for_: How long the override holds; then the windows count again.
        session: This command line.
    """
    _set(session, window_target(queue, priority, job), "closed", (reason, for_))


def auto_windows(
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    session: InSession,
) -> None:
    """Remove an override, so that the execution windows count again.

    Name the queue, priority or job as they were named when the override was made.

    Example: shifter window auto mail --priority low

    Args:
        queue: Queue whose override to remove.
        priority: Priority that was given with the queue.
        job: Type of job whose override to remove, instead of a queue.
        session: This command line.
    """
    target = window_target(queue, priority, job)
    _clear(session, target)
    note(f"{target.name}: its windows count")


def _set_circuit(
    session: Session, dependency: str, to: str, reason: str, for_: str
) -> None:
    target = circuit_target(dependency)
    fleet = _set(session, target, to, (reason, for_))
    known = [row.dependency for row in fleet.circuits if row.processes]
    if target.name not in known:
        shown = ", ".join(known) or "none"
        warn(f"no live process reports {target.name!r}; reported: {shown}")


def _set(
    session: Session,
    target: OverrideTarget,
    to: str,
    why: tuple[str, str],
    *,
    is_quiet: bool = False,
) -> Fleet:
    """Make an override by the options that all of these verbs have."""
    settings, (reason, for_) = need_state(session.settings()), why
    lasts_ms = duration_ms("--for", for_, minimum_ms=_LEAST_MS)
    override = Override(to, who(), reason, lasts_ms)
    fleet = asyncio.run(set_override(settings, target, override))
    if not is_quiet:
        note(f"{target.name}: {to} for {for_}, by {override.owner}: {reason}")
    return fleet


def _clear(session: Session, target: OverrideTarget) -> Fleet:
    return asyncio.run(clear_override(need_state(session.settings()), target))
