"""A dependency that came back is called a little more with time, never by all at once."""

from __future__ import annotations

from shifter.policy.ramp import Ramp


def admitted(ramp, *, per_ms, until_ms, from_ms=0):
    """Calls let in a tenth of a second, while so many ask in each millisecond."""
    counts: dict[int, int] = {}
    for now_ms in range(from_ms, until_ms):
        for _ in range(per_ms):
            counts[now_ms // 100] = counts.get(now_ms // 100, 0) + ramp.admit(now_ms)
    return list(counts.values())


def test_the_share_grows_and_stays_near_what_was_usual_while_calls_queue():
    ramp = Ramp(2.0, 1_000, 0)

    counts = admitted(ramp, per_ms=20, until_ms=4_000)

    assert counts[0] < 30
    assert counts[:11] == sorted(counts[:11])
    assert all(count <= 1.15 * 200 for count in counts)
    assert sum(counts[10:]) > 30 * 200
    assert not ramp.is_over


def test_it_is_over_when_its_time_is_and_nobody_is_turned_away():
    ramp = Ramp(2.0, 1_000, 0)
    admitted(ramp, per_ms=2, until_ms=900)
    assert not ramp.is_over

    admitted(ramp, per_ms=1, from_ms=900, until_ms=2_500)

    assert ramp.is_over


def test_a_process_that_stood_still_does_not_take_that_for_calm():
    ramp = Ramp(2.0, 1_000, 0)
    admitted(ramp, per_ms=20, until_ms=1_200)

    counts = admitted(ramp, per_ms=400, from_ms=3_000, until_ms=3_001)

    assert counts[0] <= 100
    assert not ramp.is_over


def test_with_nothing_known_a_few_calls_a_second_are_let_in_and_ever_more():
    ramp = Ramp(0.0, 1_000, 0)

    counts = admitted(ramp, per_ms=1, until_ms=60_000)

    assert 1 <= sum(counts[:10]) <= 12
    assert sum(counts[-10:]) > 3 * sum(counts[10:20])
