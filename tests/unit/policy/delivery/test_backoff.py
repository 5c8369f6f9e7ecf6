from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.delivery.backoff import BackoffPolicy, bound_ms, full_jitter

POLICY = BackoffPolicy(base_ms=1_000, cap_ms=10_000)


@pytest.mark.parametrize(
    ("attempt", "bound"),
    [(2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000), (6, 10_000), (7, 10_000)],
)
def test_the_bound_doubles_from_the_second_attempt_up_to_the_cap(attempt, bound):
    assert bound_ms(POLICY, attempt=attempt) == bound


def test_the_wait_is_the_drawn_part_of_the_bound():
    assert full_jitter(POLICY, attempt=3, u=0.0) == 0
    assert full_jitter(POLICY, attempt=3, u=0.25) == 500
    assert full_jitter(POLICY, attempt=3, u=0.999_999) == 1_999


def test_the_millionth_attempt_waits_no_longer_than_the_cap():
    assert bound_ms(POLICY, attempt=1_000_000) == 10_000


@pytest.mark.parametrize("attempt", [1, 0, -3])
def test_the_first_attempt_never_waits(attempt):
    with pytest.raises(ValueError, match=f"attempt is {attempt}"):
        full_jitter(POLICY, attempt=attempt, u=0.5)


@pytest.mark.parametrize(
    ("base_ms", "cap_ms", "field"),
    [(0, 10, "base_ms"), (-1, 10, "base_ms"), (11, 10, "cap_ms")],
)
def test_contradictory_settings_are_refused_by_name(base_ms, cap_ms, field):
    with pytest.raises(ConfigError) as caught:
        BackoffPolicy(base_ms=base_ms, cap_ms=cap_ms)

    assert caught.value.field == field


def test_the_smallest_settings_are_allowed():
    policy = BackoffPolicy(base_ms=1, cap_ms=1)

    assert full_jitter(policy, attempt=9, u=0.999) == 0
