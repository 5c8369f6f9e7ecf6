"""`shifter circuit`, `budget`, `quality`, `window`: the fleet, and overrides of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec
from cyclopts import Parameter

from shifter.adapters.system import SystemClock
from shifter.cli.audit import record_action
from shifter.cli.output import note, warn, write_json, write_line, write_rows
from shifter.cli.session import InSession, Session, need_state
from shifter.cli.status import (
    BUDGETS,
    CIRCUITS,
    WINDOWS,
    budget_cells,
    circuit_cells,
    quality_text,
    window_cells,
)
from shifter.fleet.view import Fleet, WindowRow
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.ops.operator import who
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

# An override shorter than a second would end before most processes have read it.
_LEAST_MS: Final = 1_000


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an override is made, and for how long.

    Attributes:
        reason: Why, shown with the override.
        for_: How long the override holds; then it ends by itself.
    """

    reason: str
    for_: str = "1h"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WindowScope:
    """The lane or the job whose execution windows are meant.

    Attributes:
        priority: Only the queue's lane of this priority.
        job: Type of job, instead of a queue.
    """

    priority: Priority | None = None
    job: str | None = None

    def target(self, queue: str | None) -> OverrideTarget:
        """The execution windows of a queue, of one of its lanes, or of a type of job.

        Raises:
            ConfigError: Neither a queue nor a job is named, or both; or a wrong name.
        """
        return window_target(queue, self.priority, self.job)


_NO_SCOPE: Final = WindowScope()


def circuit_list(*, json: bool = False, session: InSession) -> None:
    """Show the circuit and the calls of every dependency of the fleet.

    Example: shifter circuit list --json

    Args:
        json: Print one JSON array.
        session: This command line.
    """
    rows = read(session).circuits
    shown, empty = circuit_cells(rows), "no dependencies"
    write_rows(CIRCUITS, shown, rows, as_json=json, empty=empty)


def circuit_open(dependency: str, *, cause: Cause, session: InSession) -> None:
    """Keep all processes from calling a dependency, for a while.

    The circuit stays open, whatever the processes measure, until the time is over or
    `shifter circuit auto` removes the override.

    Example: shifter circuit open mailer --reason "maintenance until noon" --for 2h

    Args:
        dependency: Name of the dependency.
        cause: Why, and for how long.
        session: This command line.
    """
    _set_circuit(session, dependency, "open", cause)


def circuit_close(dependency: str, *, cause: Cause, session: InSession) -> None:
    """Let all processes call a dependency, for a while.

    The circuit stays closed, whatever the processes measure, until the time is over or
    `shifter circuit auto` removes the override.

    Example: shifter circuit close mailer --reason "the alarm was false" --for 30m

    Args:
        dependency: Name of the dependency.
        cause: Why, and for how long.
        session: This command line.
    """
    _set_circuit(session, dependency, "closed", cause)


def circuit_auto(dependency: str, *, session: InSession) -> None:
    """Remove the override of a circuit, so that the fleet decides again.

    Example: shifter circuit auto mailer

    Args:
        dependency: Name of the dependency.
        session: This command line.
    """
    target = circuit_target(dependency)
    _clear(session, target)
    note(f"{target.name}: the fleet decides")


def budget_list(*, json: bool = False, session: InSession) -> None:
    """Show the retry budget of every dependency of the fleet.

    Example: shifter budget list --json

    Args:
        json: Print one JSON array.
        session: This command line.
    """
    rows = read(session).budgets
    shown, empty = budget_cells(rows), "no dependencies"
    write_rows(BUDGETS, shown, rows, as_json=json, empty=empty)


def quality_show(*, json: bool = False, session: InSession) -> None:
    """Show the quality that the fleet serves at, and the load.

    Example: shifter quality show

    Args:
        json: Print one JSON object.
        session: This command line.
    """
    row = read(session).quality
    if json:
        write_json(msgspec.to_builtins(row))
    else:
        write_line(quality_text(row))


def quality_set(quality: str, *, cause: Cause, session: InSession) -> None:
    """Set the quality of the whole fleet by hand, for a while.

    Example: shifter quality set reduced --reason "a model server is down" --for 2h

    Args:
        quality: FULL, REDUCED or MINIMAL.
        cause: Why, and for how long.
        session: This command line.
    """
    to = quality.upper()
    fleet = set_by_hand(session, quality_target(), to, cause, is_quiet=True)
    note(quality_text(fleet.quality))


def quality_auto(*, session: InSession) -> None:
    """Remove the override of the quality, so that load decides again.

    Example: shifter quality auto

    Args:
        session: This command line.
    """
    note(quality_text(_clear(session, quality_target()).quality))


def window_list(
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
    shown, empty = window_cells(rows), "nothing is set by hand"
    write_rows(WINDOWS, shown, rows, as_json=json, empty=empty)


def window_open_now(
    queue: str | None = None,
    /,
    *,
    scope: WindowScope = _NO_SCOPE,
    cause: Cause,
    session: InSession,
) -> None:
    """Let jobs start now, whatever their execution windows are.

    Example: shifter window open-now mail --priority low --reason "a big order"

    Args:
        queue: Queue whose lanes to open; leave it out where --job is given.
        scope: Which lane or job is meant.
        cause: Why, and for how long.
        session: This command line.
    """
    set_by_hand(session, scope.target(queue), "open", cause)


def window_close_now(
    queue: str | None = None,
    /,
    *,
    scope: WindowScope = _NO_SCOPE,
    cause: Cause,
    session: InSession,
) -> None:
    """Start no more jobs, whatever their execution windows are.

    Example: shifter window close-now --job digest --reason "the reports are wrong"

    Args:
        queue: Queue whose lanes to close; leave it out where --job is given.
        scope: Which lane or job is meant.
        cause: Why, and for how long.
        session: This command line.
    """
    set_by_hand(session, scope.target(queue), "closed", cause)


def window_auto(
    queue: str | None = None,
    /,
    *,
    scope: WindowScope = _NO_SCOPE,
    session: InSession,
) -> None:
    """Remove an override, so that the execution windows count again.

    Name the queue, priority or job as they were named when the override was made.

    Example: shifter window auto mail --priority low

    Args:
        queue: Queue whose override to remove.
        scope: Which lane or job is meant.
        session: This command line.
    """
    target = scope.target(queue)
    _clear(session, target)
    note(f"{target.name}: its windows count")


def read(session: Session) -> Fleet:
    """The fleet as it is now."""
    return asyncio.run(read_fleet(need_state(session.settings())))


def _set_circuit(session: Session, dependency: str, to: str, cause: Cause) -> None:
    target = circuit_target(dependency)
    fleet = set_by_hand(session, target, to, cause)
    known = [row.dependency for row in fleet.circuits if row.processes]
    if target.name not in known:
        shown = ", ".join(known) or "none"
        warn(f"no live process reports {target.name!r}; reported: {shown}")


def set_by_hand(
    session: Session,
    target: OverrideTarget,
    to: str,
    cause: Cause,
    *,
    is_quiet: bool = False,
) -> Fleet:
    """Make an override, say so, and record it.

    Args:
        session: This command line.
        target: The setting to override.
        to: Its value.
        cause: Why, and for how long.
        is_quiet: Whether nothing is printed.
    """
    settings = need_state(session.settings())
    lasts_ms = duration_ms("--for", cause.for_, minimum_ms=_LEAST_MS)
    override = Override(to, who(), cause.reason, lasts_ms)
    fleet = asyncio.run(set_override(settings, target, override))
    if not is_quiet:
        by = f"by {override.owner}: {cause.reason}"
        note(f"{target.name}: {to} for {cause.for_}, {by}")
    action = f"{target.field} {to} {target.name} for {cause.for_}"
    record_action(settings, action, cause.reason)
    return fleet


def _clear(session: Session, target: OverrideTarget) -> Fleet:
    settings = need_state(session.settings())
    fleet = asyncio.run(clear_override(settings, target))
    record_action(settings, f"{target.field} auto {target.name}")
    return fleet
