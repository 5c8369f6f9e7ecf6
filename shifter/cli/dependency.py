"""`shifter dependency`: the endpoints of dependencies, and overrides of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from shifter.cli.audit import record_action
from shifter.cli.endpoint_table import ENDPOINTS, endpoint_cells
from shifter.cli.fleet import Cause, read, set_by_hand
from shifter.cli.output import note, warn, write_rows
from shifter.cli.session import InSession, need_state
from shifter.fleet.endpoint_view import EndpointRow
from shifter.fleet.view import Fleet
from shifter.model.endpoint import Endpoint
from shifter.model.lane import check_name
from shifter.ops.overrides import endpoint_target, restore_endpoint

LISTED: Final = (
    *("dependency", "endpoints", "open", "ejected", "drained", "inflight", "calls"),
    "failed",
)


class DependencyRow(msgspec.Struct, frozen=True):
    """The endpoints of one dependency, counted.

    Attributes:
        dependency: Its name.
        endpoints: How many there are.
        open: Those that are called, in their slow start or paused ones too.
        ejected: Those that get no calls because they are ill.
        drained: Those that an operator drained.
        inflight: Calls under way, of all processes.
        calls: Calls that ended of late.
        failures: Those that failed.
    """

    dependency: str
    endpoints: int
    open: int
    ejected: int
    drained: int
    inflight: int
    calls: int
    failures: int


def dependency_list(*, json: bool = False, session: InSession) -> None:
    """Show how many endpoints each dependency has, by state.

    Dependencies without endpoints have one row in `shifter circuit list`.

    Example: shifter dependency list

    Args:
        json: Print one JSON array.
        session: This command line.
    """
    rows = counted(read(session).endpoints)
    shown = [tuple(msgspec.structs.astuple(row)) for row in rows]
    empty = "no dependency has endpoints"
    write_rows(LISTED, shown, rows, as_json=json, empty=empty)


def dependency_show(dependency: str, *, json: bool = False, session: InSession) -> None:
    """Show the endpoints of a dependency: state, weight, calls, latency, errors.

    Numbers are of all processes, and at most 3 s old. An endpoint that is ejected by
    some processes alone is shown as most of them see it.

    Example: shifter dependency show render

    Args:
        dependency: Name of the dependency.
        json: Print one JSON array.
        session: This command line.
    """
    name = check_name("name", dependency)
    rows = [row for row in read(session).endpoints if row.dependency == name]
    shown = [cells[1:] for cells in endpoint_cells(rows)]
    empty = f"no live process reports an endpoint of {name}"
    write_rows(ENDPOINTS[1:], shown, rows, as_json=json, empty=empty)


def dependency_drain(
    dependency: str, endpoint: str, *, cause: Cause, session: InSession
) -> None:
    """Keep all processes from calling an endpoint, for a while.

    Calls under way go on, and no call begins. An endpoint that is drained is called
    only where all endpoints of the dependency are. The drain ends when its time is over
    or `shifter dependency restore` removes it.

    Example: shifter dependency drain render 10.0.0.1:8080 --reason "new kernel"

    Args:
        dependency: Name of the dependency.
        endpoint: The endpoint's URL, or host:port.
        cause: Why, and for how long.
        session: This command line.
    """
    target = endpoint_target(dependency, endpoint)
    fleet = set_by_hand(session, target, "drained", cause)
    _warn_of(fleet, dependency, Endpoint(endpoint).url)


def dependency_restore(dependency: str, endpoint: str, *, session: InSession) -> None:
    """Let all processes call an endpoint again.

    Ends a drain, and what the fleet found. What one process found by itself holds in
    that process until its time is over; an endpoint whose health checks still fail is
    ejected again.

    Example: shifter dependency restore render 10.0.0.1:8080

    Args:
        dependency: Name of the dependency.
        endpoint: The endpoint's URL, or host:port.
        session: This command line.
    """
    settings = need_state(session.settings())
    target = endpoint_target(dependency, endpoint)
    asyncio.run(restore_endpoint(settings, dependency, endpoint))
    note(f"{target.name}: restored")
    record_action(settings, f"endpoint restored {target.name}")


def counted(rows: Sequence[EndpointRow]) -> list[DependencyRow]:
    """The endpoints of each dependency, counted by state."""
    found: dict[str, list[EndpointRow]] = {}
    for row in rows:
        found.setdefault(row.dependency, []).append(row)
    return [_counted(name, of_one) for name, of_one in found.items()]


def _counted(name: str, rows: Sequence[EndpointRow]) -> DependencyRow:
    states = [row.state for row in rows]
    ejected, drained = states.count("ejected"), states.count("drained")
    return DependencyRow(
        dependency=name,
        endpoints=len(rows),
        open=len(rows) - ejected - drained,
        ejected=ejected,
        drained=drained,
        inflight=sum(row.inflight for row in rows),
        calls=sum(row.calls for row in rows),
        failures=sum(row.failures for row in rows),
    )


def _warn_of(fleet: Fleet, dependency: str, url: str) -> None:
    """Warn where a drain has no effect, or more than was meant."""
    rows = [row for row in fleet.endpoints if row.dependency == dependency]
    known = [row.endpoint for row in rows if row.processes]
    if url not in known:
        shown = ", ".join(known[:5]) or "none"
        warn(f"no live process reports {url!r} of {dependency!r}; reported: {shown}")
    elif all(row.state == "drained" for row in rows if row.processes):
        warn(f"all endpoints of {dependency!r} are drained: all are called")
