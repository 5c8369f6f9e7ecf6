"""Keeps what a scaler has learnt of the hours of a day beyond the end of its process.

The next scaler finds it in the state store. While the store is away, or after it lost
everything, what this process has learnt stays in its memory, and is written again.
"""

from __future__ import annotations

import contextlib

from shifter import wiring
from shifter.errors import StoreError
from shifter.fleet.scale_history import Hours, changed_histories, read_histories
from shifter.fleet.view import cells_of, change_cells
from shifter.model.fleet import Proposal
from shifter.ops.scaling import Planner
from shifter.ports import FleetStore


class ScaleHistory:
    """Restores and saves the histories of one planner.

    Args:
        planner: Learns them.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner, self._process = planner, wiring.new_worker_id()
        self._saved: dict[str, Hours] = {}

    async def restore(self, store: FleetStore) -> None:
        """Let the planner expect what the store has; its own hours come first.

        Raises:
            StoreError: The store does not answer.
        """
        cells, now_ms = await cells_of(store, self._process)
        self._planner.recall(read_histories(cells, now_ms))
        # The store may have lost what this process wrote before.
        self._saved = {}

    async def save(self, store: FleetStore) -> None:
        """Write what was learnt since the last time, about once an hour.

        A store that does not answer is asked again with the next reading.
        """
        learnt = self._planner.learnt()
        if all(self._saved.get(lane) is hours for lane, hours in learnt.items()):
            return

        def change(cells: dict[str, bytes], now_ms: int) -> list[Proposal]:
            return list(changed_histories(cells, learnt, now_ms))

        # Others may change the same cells all the time: they write the same.
        with contextlib.suppress(StoreError, RuntimeError):
            await change_cells(store, self._process, change)
            self._saved = learnt
