"""Suites that every adapter of a port must pass.

A suite is a class of async tests for pytest. Derive from it in a test module of your
own and give it the fixture that its docstring names:

    class TestMyClaims(ClaimStoreConformance):
        @pytest.fixture
        def claim_bench(self): ...
"""

from __future__ import annotations
