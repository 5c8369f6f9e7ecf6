"""What every log must do: its accepting side, its draining side, its administration.

Four suites over one bench. Derive from each and give it the fixture ``log_bench``:

    class TestMyAppends(LaneLogConformance):
        @pytest.fixture
        async def log_bench(self): ...
"""

from __future__ import annotations

from shifter.testing.conformance.atomic_log import (
    AtomicLogBench,
    AtomicLogConformance,
)
from shifter.testing.conformance.lane_feed import LaneFeedConformance
from shifter.testing.conformance.lane_log import LaneLogConformance
from shifter.testing.conformance.log_admin import LogAdminConformance
from shifter.testing.conformance.log_bench import LogBench

__all__ = [
    "AtomicLogBench",
    "AtomicLogConformance",
    "LaneFeedConformance",
    "LaneLogConformance",
    "LogAdminConformance",
    "LogBench",
]
