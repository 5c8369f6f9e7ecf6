"""The health checks of a process, where a dependency has some."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from shifter.fleet.replica import FleetReplica


def background_of(
    replica: FleetReplica,
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """What runs beside the syncs of a process: health checks, where there are any."""
    protections = replica.protections.values()
    if not any(one.dependency.health is not None for one in protections):
        return []
    from shifter.balance.checks import EndpointChecks  # noqa: PLC0415  # rarely needed

    return [EndpointChecks(replica).run]
