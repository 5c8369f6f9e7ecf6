"""A deployment on one file, which needs no server."""

from __future__ import annotations

import pytest

from shifter.config import Secret, Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        namespace="shop", log_url=Secret.of_url(f"sqlite://{tmp_path}/shop.db")
    )
