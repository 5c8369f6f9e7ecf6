"""What every claim store must do; the rules are `shifter.policy.delivery.claim`.

Four suites over one bench. Derive from each and give it the fixture ``claim_bench``:

    class TestMyClaims(ClaimStoreConformance):
        @pytest.fixture
        async def claim_bench(self): ...
"""

from __future__ import annotations

from shifter.testing.conformance.claim_bench import ClaimBench
from shifter.testing.conformance.claim_cancel import CancelConformance
from shifter.testing.conformance.claim_keyed import KeyedClaimConformance
from shifter.testing.conformance.claim_plain import ClaimStoreConformance
from shifter.testing.conformance.claim_waiting import WaitingConformance

__all__ = [
    "CancelConformance",
    "ClaimBench",
    "ClaimStoreConformance",
    "KeyedClaimConformance",
    "WaitingConformance",
]
