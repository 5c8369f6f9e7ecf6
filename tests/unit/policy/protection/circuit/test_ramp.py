"""A dependency that came back is called at a rate that doubles, never by all at once."""

from __future__ import annotations

import heapq
import random
from collections import deque

from hypothesis import given, strategies as st

from shifter.policy.protection.circuit.ramp import HOLD_MS, Ramp

LENGTH_MS = 2_000
NEVER = 10**9


class Line:
    """Callers that ask for leave, and come again when they are turned away."""

    def __init__(self, ramp, *, took_ms=20):
        self.ramp, self.took_ms, self.random = ramp, took_ms, random.Random(1)
        self.now_ms = ramp.from_ms
        self.under_way, self.away = deque(), []
        self.made = []

    def run(self, *, per_ms, until_ms, fails_from_ms=NEVER, piled_up=0):
        """Call at a rate; the calls made in each second."""
        owed = float(piled_up)
        for now_ms in range(self.now_ms, until_ms):
            while self.under_way and self.under_way[0] <= now_ms:
                self.under_way.popleft()
                self.ramp.ended(ok=now_ms < fails_from_ms)
            owed += per_ms
            while self.away and self.away[0] <= now_ms:
                heapq.heappop(self.away)
                owed += 1
            while owed >= 1:
                owed -= 1
                if self.ramp.admit(now_ms):
                    self.made.append(now_ms)
                    self.under_way.append(now_ms + self.took_ms)
                else:
                    again_ms = self.random.randint(300, 450)
                    heapq.heappush(self.away, now_ms + again_ms)
        self.now_ms = until_ms

    def per_s(self, from_ms, to_ms):
        made = sum(from_ms <= at_ms < to_ms for at_ms in self.made)
        return made * 1_000 / (to_ms - from_ms)


def test_with_nothing_known_all_that_is_offered_is_soon_made():
    for per_ms in (0.01, 0.2, 2.0):
        line = Line(Ramp(0.0, LENGTH_MS, 0))
        line.run(per_ms=per_ms, until_ms=6_000)

        assert line.per_s(0, 250) <= 8
        assert line.per_s(3_000, 6_000) >= 0.95 * per_ms * 1_000


def test_a_known_peak_is_reached_within_half_of_the_ramp_and_bounds_the_rate():
    line = Line(Ramp(0.2, LENGTH_MS, 0))
    line.run(per_ms=0.2, until_ms=30_000, piled_up=400)

    assert line.per_s(0, 200) <= 50
    assert line.per_s(1_300, 15_000) >= 200
    for from_ms in range(0, 29_500, 100):
        assert line.per_s(from_ms, from_ms + 500) <= 1.2 * 200
    assert line.ramp.is_over


def test_a_peak_of_a_quiet_hour_bounds_the_rate_for_a_while_only():
    line = Line(Ramp(0.01, LENGTH_MS, 0))
    line.run(per_ms=0.2, until_ms=10_000)

    assert line.per_s(1_000, HOLD_MS) <= 12
    assert line.per_s(9_000, 10_000) >= 200


def test_calls_that_fail_again_bring_it_back_to_its_beginning_at_once():
    line = Line(Ramp(0.0, LENGTH_MS, 0))
    line.run(per_ms=1.0, until_ms=2_000)
    assert line.per_s(1_900, 2_000) >= 200

    line.run(per_ms=1.0, until_ms=4_000, fails_from_ms=2_000)

    assert line.per_s(2_100, 4_000) <= 8


def test_a_failure_now_and_then_keeps_no_caller_out():
    ramp, made = Ramp(0.0, LENGTH_MS, 0), 0
    for now_ms in range(6_000):
        if ramp.admit(now_ms):
            made += 1
            ramp.ended(ok=made % 20 != 0)

    assert ramp._per_ms > 1


def test_the_rate_does_not_grow_before_a_call_succeeded():
    line = Line(Ramp(0.0, LENGTH_MS, 0), took_ms=5_000)
    line.run(per_ms=1.0, until_ms=5_000)

    assert line.per_s(0, 5_000) <= 6


def test_a_ramp_is_over_when_its_time_is_and_no_call_is_turned_away():
    line = Line(Ramp(0.2, LENGTH_MS, 0))
    line.run(per_ms=0.2, until_ms=1_900)
    assert not line.ramp.is_over

    line.run(per_ms=0.1, until_ms=4_000)

    assert line.ramp.is_over


def test_a_process_that_stood_still_does_not_take_that_for_calm():
    line = Line(Ramp(2.0, LENGTH_MS, 0))
    line.run(per_ms=20, until_ms=2_500)
    line.under_way.clear()

    at_once = sum(line.ramp.admit(4_500) for _ in range(400))

    assert at_once <= 111
    assert not line.ramp.is_over


@given(
    st.floats(0.001, 10),
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=300),
)
def test_no_order_of_calls_exceeds_the_old_peak_by_more_than_a_tenth(
    peak_per_ms, length_ms, steps
):
    ramp, now_ms, made = Ramp(peak_per_ms, length_ms, 0), 0, []
    for gap_ms, ok in steps:
        now_ms += gap_ms
        if now_ms >= HOLD_MS:
            break
        if ramp.admit(now_ms):
            made.append(now_ms)
            ramp.ended(ok=ok)

    # In a burst, then evenly.
    for n, from_ms in enumerate(made):
        for count, at_ms in enumerate(made[n:], start=1):
            most = max(1.0, 1.1 * peak_per_ms * 50)
            assert count <= most + 1.1 * peak_per_ms * (at_ms - from_ms) + 1
