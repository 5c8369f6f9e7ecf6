"""Drains one worker of a fleet: an order in the shared state that the worker obeys."""

from __future__ import annotations

from typing import Final

import msgspec

from shifter import wiring
from shifter.config import Settings
from shifter.errors import ConfigError, UnknownNameError
from shifter.fleet.drain_order import DRAIN_CELLS, drain_cell
from shifter.fleet.shared_state import OverrideCell, read_setting, setting_text
from shifter.fleet.view import change_cells
from shifter.model.advice import listed
from shifter.model.fleet import Proposal
from shifter.ops.overrides import opened_fleet
from shifter.ports import WorkerReport
from shifter.wire.job_event import shown_text
from shifter.wire.untrusted import MAX_SHORT

_ORDER_MS: Final = 3_600_000
"""How long an order stays: a worker that the store does not reach obeys it later."""
_ENDED_MOST: Final = 100
"""Orders that have ended and that one new order removes."""


async def read_workers(settings: Settings) -> list[WorkerReport]:
    """The live workers, by worker id.

    Raises:
        StoreError: The state store does not answer.
    """
    presence = wiring.open_presence(settings)
    try:
        return await presence.workers()
    finally:
        await presence.close()


def find_worker(workers: list[WorkerReport], worker_id: str) -> WorkerReport:
    """The worker of an id.

    Raises:
        UnknownNameError: No live worker has it.
    """
    found = {report.worker_id: report for report in workers}
    # A longer id is none that a worker makes, and no cell could have its name.
    if worker_id not in found or len(worker_id) > MAX_SHORT:
        want = listed(found, "live workers")
        raise UnknownNameError("worker", worker_id, want)
    return found[worker_id]


async def drain_worker(
    settings: Settings, worker_id: str, *, owner: str, reason: str
) -> OverrideCell:
    """Order a worker to take no more work, to finish what runs, and to end.

    Args:
        settings: Name the state store.
        worker_id: Of a live worker.
        owner: Who orders it.
        reason: Why; shown to everybody.

    Returns:
        The order that holds: this one, or an earlier one of another operator.

    Raises:
        UnknownNameError: No live worker has this id.
        ConfigError: The worker is of a release that knows no such order.
        StoreError: The state store does not answer.
    """
    report = find_worker(await read_workers(settings), worker_id)
    if report.version is None:
        want = "it is of an older release: end it on its host with SIGTERM"
        raise ConfigError("worker", worker_id, want)
    name = drain_cell(worker_id)
    order = OverrideCell("drain", shown_text(owner), shown_text(reason), 0)

    def change(cells: dict[str, bytes], now_ms: int) -> list[Proposal]:
        held = read_setting(cells.get(name, b""))
        if held is not None and held.until_ms > now_ms:
            return []
        lasting = msgspec.structs.replace(order, until_ms=now_ms + _ORDER_MS)
        ended = [
            Proposal(cell, text, b"")
            for cell, text in cells.items()
            if cell.startswith(DRAIN_CELLS) and cell != name and _is_over(text, now_ms)
        ]
        drain = Proposal(name, cells.get(name, b""), setting_text(lasting))
        return [drain, *ended[:_ENDED_MOST]]

    async with opened_fleet(settings) as store:
        cells = await change_cells(store, wiring.new_worker_id(), change)
    return read_setting(cells.get(name, b"")) or order


def _is_over(text: bytes, now_ms: int) -> bool:
    order = read_setting(text)
    return order is None or order.until_ms <= now_ms
