"""F47: ten times its capacity, and a service stays what it is."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.fleet import Fleet
from tests.torture.burst.trial import MEMORY_MIB, RECOVERY_S, play

ORDINARY_S, LONG_S = 15.0, 60.0
CASES = [
    pytest.param("sqlite", ORDINARY_S, id="sqlite-short"),
    pytest.param("sqlite", LONG_S, id="sqlite", marks=pytest.mark.torture),
    pytest.param(
        "kafka",
        LONG_S,
        id="kafka",
        marks=[pytest.mark.torture, pytest.mark.kafka, pytest.mark.redis],
    ),
]
pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("log", "seconds"), CASES)
def test_a_burst_is_survived_without_inversion_and_soon_forgotten(
    request, namespace, tmp_path, log, seconds
):
    state = url = f"sqlite://{tmp_path / 'fleet.db'}"
    if log == "kafka":
        url = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    fleet = Fleet(url, state, namespace, tmp_path)
    try:
        report = play(fleet, seconds)
    finally:
        fleet.close()
    print(json.dumps(report._asdict(), indent=1))

    assert report.violations == []
    assert report.recovery_s <= RECOVERY_S
    critical, high, *lower = report.kept_ratio
    assert critical >= 0.95
    assert critical > high > max(lower)  # LOW may wait longer, and be kept for that
    assert max(report.memory_mib.values()) <= MEMORY_MIB
    assert sum(report.answers["LOW"].values()) > 200 * seconds
    assert any(text.startswith("shed") for text in report.answers["LOW"])
