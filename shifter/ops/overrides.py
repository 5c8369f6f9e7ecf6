"""Settings that an operator makes by hand: circuits, quality, windows, endpoints.

An override holds for a while, for the whole fleet, and carries its owner and reason.
All kinds are cells of the same shared state, so one mechanism sets and removes
them: a target names the cell and the values that it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.fleet.endpoint_cells import MOST_CHARS, EndpointCell
from shifter.fleet.hours import hours_scope, job_scope, queue_scope, window_cell
from shifter.fleet.shared_state import QUALITY_BY_HAND, OverrideCell, by_hand_cell
from shifter.fleet.view import Fleet, WindowRow, look, set_by_hand
from shifter.model.answer import Quality
from shifter.model.endpoint import Endpoint
from shifter.model.lane import Priority, check_name, parse_lane
from shifter.policy.balance.mark import MarkKind
from shifter.policy.schedule.hours import Windows, next_opening_ms
from shifter.ports import Clock, FleetStore

_OPEN_OR_CLOSED: Final = ("open", "closed")


class OverrideTarget(NamedTuple):
    """A setting that an operator can override.

    Attributes:
        name: Its name in messages.
        field: The name of its value in an error.
        cell: Cell of the shared state that holds the override.
        values: Values that the override may take.
    """

    name: str
    field: str
    cell: str
    values: tuple[str, ...]


class Override(NamedTuple):
    """An override to make.

    Attributes:
        to: One of the target's values.
        owner: User and host that make it.
        reason: Why, shown with the override.
        lasts_ms: How long it holds from now on; then the fleet decides again.
    """

    to: str
    owner: str
    reason: str
    lasts_ms: int


def circuit_target(dependency: str) -> OverrideTarget:
    """The circuit of a dependency.

    Raises:
        ConfigError: The name is not one of a dependency.
    """
    name = check_name("name", dependency)
    return OverrideTarget(name, "circuit", by_hand_cell(name), _OPEN_OR_CLOSED)


def quality_target() -> OverrideTarget:
    """The quality that the whole fleet serves at."""
    return OverrideTarget("quality", "quality", QUALITY_BY_HAND, tuple(Quality))


def endpoint_target(dependency: str, url: str) -> OverrideTarget:
    """An endpoint of a dependency, which can be drained.

    Raises:
        ConfigError: The name is not one of a dependency, or the URL is wrong or longer
            than 400 characters.
    """
    name, endpoint = check_name("name", dependency), Endpoint(url).url
    if len(endpoint) > MOST_CHARS:
        want = f"use at most {MOST_CHARS} characters"
        raise ConfigError("endpoint", url, want)
    cell = EndpointCell(MarkKind.DRAIN, name, endpoint).name
    return OverrideTarget(f"{name} {endpoint}", "endpoint", cell, ("drained",))


def window_target(
    queue: str | None, priority: Priority | None, job: str | None
) -> OverrideTarget:
    """The execution windows of a queue, of one of its lanes, or of a type of job.

    Args:
        queue: Queue whose lanes are meant; ``None`` where a job is named.
        priority: Only the queue's lane of this priority; ``None`` for all of them.
        job: Type of job, instead of a queue.

    Raises:
        ConfigError: Neither a queue nor a job is named, or both; or a name is wrong.
    """
    scope = hours_scope(queue, priority, job)
    return OverrideTarget(scope, "window", window_cell(scope), _OPEN_OR_CLOSED)


async def set_override(
    settings: Settings, target: OverrideTarget, override: Override
) -> Fleet:
    """Make an override, in place of the one that holds now.

    Args:
        settings: Name the state store.
        target: The setting to override.
        override: Its value, its owner, its reason and its time.

    Returns:
        The fleet as it is with the override.

    Raises:
        ConfigError: The target does not take this value.
        StoreError: The state store does not answer.
    """
    if override.to not in target.values:
        want = f"use one of {', '.join(target.values)}"
        raise ConfigError(target.field, override.to, want)
    cell = msgspec.convert(
        {
            "to": override.to,
            "owner": override.owner,
            "reason": override.reason,
            "until_ms": override.lasts_ms,
        },
        OverrideCell,
    )
    return await _replace(settings, target, cell)


async def clear_override(settings: Settings, target: OverrideTarget) -> Fleet:
    """Remove an override; where there is none, nothing changes.

    Returns:
        The fleet as it is without the override.

    Raises:
        StoreError: The state store does not answer.
    """
    return await _replace(settings, target, None)


async def restore_endpoint(settings: Settings, dependency: str, url: str) -> Fleet:
    """Let an endpoint be called again, whoever took it out for the fleet.

    What one process found by itself holds there until its end, and where health checks
    still fail the fleet ejects the endpoint again.

    Returns:
        The fleet as it is then.

    Raises:
        ConfigError: The dependency or the URL is wrong.
        StoreError: The state store does not answer.
    """
    target = endpoint_target(dependency, url)
    process, endpoint = wiring.new_worker_id(), Endpoint(url).url
    async with opened_fleet(settings) as store:
        await set_by_hand(store, process, target.cell, None)
        for kind in (MarkKind.FLEET, MarkKind.CHECKS):
            cell = EndpointCell(kind, dependency, endpoint).name
            await set_by_hand(store, process, cell, None)
        return await look(store, process)


def windows_of(app: Shifter) -> dict[str, Windows]:
    """The execution windows that an app declares, of jobs and of lanes, by scope."""
    found = {job_scope(job.spec.name): job.spec.windows for job in app.jobs.values()}
    for name, rule in app.hours.rules.items():
        if (lane := parse_lane(name)) is not None:
            found[queue_scope(lane.queue, lane.priority)] = rule.windows
    return {scope: windows for scope, windows in sorted(found.items()) if windows}


def declared_windows(app: Shifter, clock: Clock) -> list[WindowRow]:
    """The execution windows that an app declares, of jobs and of lanes, as of now."""
    now, rows = clock.epoch_ms(), list[WindowRow]()
    for scope, windows in windows_of(app).items():
        opens_ms = next_opening_ms(windows, now)
        opens_s = (opens_ms - now) / 1_000 if opens_ms > now else None
        texts = [window.text for window in windows]
        rows.append(WindowRow(scope, opens_s is None, texts, opens_s, None))
    return rows


async def read_fleet(settings: Settings) -> Fleet:
    """Read circuits, budgets, quality, admission and overrides of the fleet.

    Raises:
        StoreError: The state store does not answer.
    """
    async with opened_fleet(settings) as store:
        return await look(store, wiring.new_worker_id())


async def _replace(
    settings: Settings, target: OverrideTarget, cell: OverrideCell | None
) -> Fleet:
    process = wiring.new_worker_id()
    async with opened_fleet(settings) as store:
        await set_by_hand(store, process, target.cell, cell)
        return await look(store, process)


@contextlib.asynccontextmanager
async def opened_fleet(settings: Settings) -> AsyncGenerator[FleetStore]:
    """The shared state of the fleet, closed at the end."""
    store = wiring.open_fleet(settings)
    try:
        yield store
    finally:
        await store.close()
