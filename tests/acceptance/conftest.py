"""A fleet with the topics of the test app, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import TARGET, Fleet

SERVERS = pytest.param(
    "servers", id="kafka", marks=[pytest.mark.kafka, pytest.mark.redis]
)


@pytest.fixture(params=[SERVERS])
def fleet(
    request: pytest.FixtureRequest, namespace: str, tmp_path: Path
) -> Iterator[Fleet]:
    """Ready to work; everything it started is ended afterwards."""
    log = request.getfixturevalue("kafka").url
    state = request.getfixturevalue("redis_url")
    fleet = Fleet(log, state, namespace, tmp_path)
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()
