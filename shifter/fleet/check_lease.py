"""Which process sends the health checks of a dependency for the whole fleet.

A lease in a cell: the first process that asks has it, and renews it when half of its
time is over. When the holder ends, another one takes over within 10 s. Two holders at
once would do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shifter.fleet.endpoint_cells import decoded
from shifter.model.fleet import Proposal
from shifter.wire.untrusted import InstantMs

LEASE_MS: Final = 10_000
"""How long a process may send the health checks."""

_PREFIX: Final = "endpoint/checks/"


class LeaseCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right to check the endpoints of a dependency.

    Attributes:
        owner: The process that has it.
        until_ms: When it ends, by the store's clock.
    """

    owner: Annotated[str, Meta(max_length=200)]
    until_ms: InstantMs


def lease_cell(dependency: str) -> str:
    """The name of the cell of a lease."""
    return _PREFIX + dependency


def holder(cells: Mapping[str, bytes], dependency: str, store_ms: int) -> str | None:
    """The process that has the lease now; ``None`` if none does.

    A lease that ends later than one can is forged, or its clock jumped: it counts for
    nothing.

    Args:
        cells: The cells of the fleet.
        dependency: The dependency.
        store_ms: The time, by the store's clock.
    """
    lease = decoded(cells.get(lease_cell(dependency), b""), LeaseCell)
    if lease is None or not store_ms < lease.until_ms <= store_ms + LEASE_MS:
        return None
    return lease.owner


def wanted_lease(
    cells: Mapping[str, bytes], dependency: str, process: str, store_ms: int
) -> Proposal | None:
    """What a process proposes to have the lease, or to keep it.

    Args:
        cells: The cells of the fleet.
        dependency: The dependency.
        process: The process.
        store_ms: The time, by the store's clock.

    Returns:
        ``None`` while another process has it, or it is not to be renewed yet.
    """
    name, owner = lease_cell(dependency), holder(cells, dependency, store_ms)
    held = cells.get(name, b"")
    if owner is not None and (
        owner != process or holder(cells, dependency, store_ms + LEASE_MS // 2)
    ):
        return None
    made = LeaseCell(process, store_ms + LEASE_MS)
    return Proposal(name, held, msgspec.json.encode(made))
