from __future__ import annotations

from shifter.model.time import EpochMs
from shifter.policy.delivery.job_limits import (
    attempt_limit_ms,
    is_expired,
    remaining_ms,
)

NOW = EpochMs(1_000)


def test_without_a_deadline_there_is_no_end():
    assert remaining_ms(None, NOW) is None
    assert not is_expired(None, NOW)
    assert attempt_limit_ms(30, None, NOW) == 30


def test_the_deadline_itself_is_too_late():
    assert not is_expired(1_001, NOW)
    assert is_expired(1_000, NOW)
    assert is_expired(999, NOW)


def test_a_deadline_at_the_epoch_is_a_deadline():
    assert is_expired(0, NOW)
    assert remaining_ms(0, NOW) == 0
    assert attempt_limit_ms(30, 0, NOW) == 0


def test_what_is_left_counts_down_to_nothing():
    assert remaining_ms(1_250, NOW) == 250
    assert remaining_ms(1_000, NOW) == 0
    assert remaining_ms(-(10**18), NOW) == 0


def test_an_attempt_runs_for_its_timeout_or_to_the_deadline():
    assert attempt_limit_ms(30, 1_500, NOW) == 30
    assert attempt_limit_ms(800, 1_500, NOW) == 500
