"""A fleet on the session's servers, with the topics of the test app."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.kafka import KafkaCluster
from tests.acceptance.fleet import TARGET, Fleet


@pytest.fixture
def fleet(
    kafka: KafkaCluster, redis_url: str, namespace: str, tmp_path: Path
) -> Iterator[Fleet]:
    """Ready to work; everything it started is ended afterwards."""
    fleet = Fleet(kafka.url, redis_url, namespace, tmp_path)
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()
