"""Overrides of operators.

An operator's program is no process of the fleet: it reports nothing of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from shifter.fleet.shared_state import OverrideCell, setting_text
from shifter.model.fleet import FleetReport, Proposal
from shifter.ports import FleetStore

_TRIES: Final = 5


async def set_by_hand(
    store: FleetStore, process: str, cell: str, setting: OverrideCell | None
) -> None:
    """Set a cell, or let go of it; its end is given from now by the store's clock.

    Args:
        store: Where the fleet agrees.
        process: Name of the operator's program.
        cell: `by_hand_cell` of a dependency, `QUALITY_BY_HAND`, or a `window_cell`.
        setting: With ``until_ms`` as milliseconds from now; ``None`` to let go.

    Raises:
        StoreError: It does not answer.
        RuntimeError: Others set it again and again at the same time.
    """
    view = await store.sync(question(process))
    for _ in range(_TRIES):
        held = ({} if view.cells is None else view.cells).get(cell, b"")
        text = b""
        if setting is not None:
            until_ms = view.now_ms + setting.until_ms
            text = setting_text(msgspec.structs.replace(setting, until_ms=until_ms))
        if held == text:
            return
        asking = question(process)
        change = [Proposal(cell, held, text)]
        view = await store.sync(asking._replace(proposals=change))
        if view.accepted[0]:
            return
    raise RuntimeError(f"{cell} changes all the time")


async def cells_of(store: FleetStore, process: str) -> tuple[Mapping[str, bytes], int]:
    """All cells, and the store's clock; arguments and errors as of `set_by_hand`."""
    view = await store.sync(question(process))
    return {} if view.cells is None else view.cells, view.now_ms


def question(process: str) -> FleetReport:
    """A report without evidence that asks for all cells."""
    return FleetReport(process, 0.0, b"", is_alarmed=True, keep_ms=0, version=0)
