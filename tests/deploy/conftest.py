"""Debian's promtool; without it these tests are skipped, and in CI they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture
def check(promtool: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs promtool with these arguments."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [promtool, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run
