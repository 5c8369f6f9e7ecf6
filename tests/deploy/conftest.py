"""Debian's promtool; without it these tests are skipped, and in CI they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from stack import prometheus
from stack.errors import Missing


@pytest.fixture(scope="session")
def promtool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs promtool with these arguments."""
    try:
        program = prometheus.promtool()
    except Missing as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run
