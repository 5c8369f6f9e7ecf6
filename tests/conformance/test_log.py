"""Every log in this repository meets the public conformance suites."""

from __future__ import annotations

import itertools

import pytest

from shifter.adapters.memory.log import (
    MemoryLaneFeed,
    MemoryLaneLog,
    MemoryLog,
    MemoryLogAdmin,
)
from shifter.adapters.system import SystemClock
from shifter.testing.conformance.log import (
    LaneFeedConformance,
    LaneLogConformance,
    LogAdminConformance,
)


class MemoryBench:
    """The log in memory."""

    max_record_bytes = 1_000_000
    early_ms = 0
    has_delay = True

    def __init__(self):
        self.clock = SystemClock()
        self._log = MemoryLog(self.clock)
        self._serial = itertools.count()

    async def lane(self, *, partitions=1):
        name = f"shop.q{next(self._serial)}.low"
        self._log.create_lanes(name, partitions=partitions)
        return name

    def log(self):
        return MemoryLaneLog(self._log, max_record_bytes=self.max_record_bytes)

    def feed(self, *topics):
        return MemoryLaneFeed(self._log, topics)

    def admin(self):
        return MemoryLogAdmin(self._log)


@pytest.fixture
def log_bench():
    return MemoryBench()


class TestMemoryAppends(LaneLogConformance):
    """`MemoryLaneLog`."""


class TestMemoryFeeds(LaneFeedConformance):
    """`MemoryLaneFeed`."""


class TestMemoryAdmin(LogAdminConformance):
    """`MemoryLogAdmin`."""
