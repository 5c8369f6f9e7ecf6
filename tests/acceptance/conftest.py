"""A fleet with the topics of the test app, on real servers and on one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import TARGET, Fleet

SERVERS = pytest.param(
    "servers", id="kafka", marks=[pytest.mark.kafka, pytest.mark.redis]
)
EMBEDDED = pytest.param("embedded", id="sqlite")


@pytest.fixture(params=[SERVERS, EMBEDDED])
def fleet(
    request: pytest.FixtureRequest, namespace: str, tmp_path: Path
) -> Iterator[Fleet]:
    """Ready to work; everything it started is ended afterwards."""
    if request.param == "servers":
        log = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    else:
        log = state = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(log, state, namespace, tmp_path)
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()
