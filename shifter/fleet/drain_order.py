"""An operator's order that one worker drain and end, as its process reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from shifter.fleet.shared_state import OverrideCell, read_setting
from shifter.model.fleet import Proposal

DRAIN_CELLS: Final = "hand/drain/"
"""Orders that workers drain, by worker id; `drain_cell`."""


def drain_cell(worker_id: str) -> str:
    """The cell of an order that a worker drain and end."""
    return DRAIN_CELLS + worker_id


class DrainOrder:
    """Watches the shared state for an order to one worker; a `CellOwner`.

    Args:
        worker_id: This worker's id, which no other process has had or will have.
        ordered: Called once, in the thread that syncs, with the order.
    """

    def __init__(self, worker_id: str, ordered: Callable[[OverrideCell], None]) -> None:
        self._cell, self._ordered = drain_cell(worker_id), ordered
        self._is_ordered = False

    def propose(self) -> Iterable[Proposal]:
        """Propose nothing: operators order."""
        return ()

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read the order; ``now_ms`` is the store's clock."""
        text = cells.get(self._cell)
        order = None if text is None else read_setting(text)
        if order is None or order.to != "drain" or order.until_ms <= now_ms:
            return
        if not self._is_ordered:
            self._is_ordered = True
            self._ordered(order)
