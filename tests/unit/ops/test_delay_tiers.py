"""Delay tiers in the state of a namespace: counted, empty, or not known."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.deadletter.open_counts import OpenCounts
from shifter.ops.status import DelayTierRow, StatusSources, read_overview
from shifter.ports import DelayTier
from shifter.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("tiers", "shown"),
    [
        (None, None),
        ([], []),
        ([DelayTier(64, 3, 0)], [DelayTierRow(64, 3, -1.5)]),
    ],
    ids=["took too long", "none", "overdue"],
)
async def test_tiers_are_shown_as_the_log_counts_them(monkeypatch, tiers, shown):
    clock = FakeClock(1_500)
    admin = MemoryLogAdmin(MemoryLog(clock))

    async def delay_tiers(topics):
        return tiers

    monkeypatch.setattr(admin, "delay_tiers", delay_tiers)
    sources = StatusSources("shop", admin, None, None, clock, OpenCounts(), print)

    assert (await read_overview(sources)).delay_tiers == shown
