"""What every adapter of a port must do, as tests that take any adapter.

Each suite is a class of async tests; derive from it in your own test module and give
it the fixture named in its docstring:

    class TestMyClaims(ClaimStoreConformance):
        @pytest.fixture
        def claim_bench(self): ...
"""

from __future__ import annotations
