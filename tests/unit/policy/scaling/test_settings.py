"""Settings of a worker group that contradict each other, or themselves."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.scaling.settings import MAX_WORKERS, ScalingPolicy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("floor", -1),
        ("floor", 101),
        ("floor", 1.5),
        ("ceiling", 0),
        ("ceiling", MAX_WORKERS + 1),
        ("target_ms", 0),
        ("target_ms", 999),
        ("stabilisation_ms", -1),
        ("start_up_ms", -1),
        ("utilisation", 0),
        ("utilisation", 1.1),
        ("utilisation", float("nan")),
        ("tolerance", -0.1),
        ("tolerance", 1.0),
        ("tolerance", float("nan")),
    ],
)
def test_a_value_out_of_its_range_is_refused(field, value):
    with pytest.raises(ConfigError) as caught:
        ScalingPolicy(**{field: value})

    assert caught.value.field == field


def test_a_floor_may_be_the_ceiling():
    assert ScalingPolicy(floor=3, ceiling=3).floor == 3
