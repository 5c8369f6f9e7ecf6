from __future__ import annotations

import pytest

# The suites are no test modules: without this, a failure shows no values.
pytest.register_assert_rewrite("shifter.testing.conformance")
