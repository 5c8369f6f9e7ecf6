"""When a worker process counts as alive."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.health import HealthPolicy, WorkProgress, ailment

POLICY = HealthPolicy(silent_s=10, stalled_s=60)
WELL = WorkProgress(is_ready=True, unpolled_s=0.5, unsettled_s=0.0, running=3)


@pytest.mark.parametrize(
    ("said", "silent_s", "wrong"),
    [
        (WELL, 1.0, None),
        (WELL, 10.0, None),
        (WELL, 10.1, "silent"),
        (None, 60.0, None),
        (None, 60.1, "has not begun"),
        (WELL._replace(unsettled_s=60.1), 0.0, "settled"),
        (WELL._replace(unpolled_s=60.1), 0.0, None),
        (WELL._replace(unpolled_s=60.1, running=0), 0.0, "polled"),
        (WELL._replace(unpolled_s=61, running=0, is_ready=False), 0.0, None),
    ],
)
def test_a_process_is_alive_while_it_gets_on(said, silent_s, wrong):
    found = ailment(POLICY, said, silent_s=silent_s)

    assert found is None if wrong is None else wrong in found


@pytest.mark.parametrize("field", ["silent_s", "stalled_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_bound_must_be_above_0(field, value):
    with pytest.raises(ConfigError, match=field):
        HealthPolicy(**{field: value})
