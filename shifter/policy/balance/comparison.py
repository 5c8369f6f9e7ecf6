"""Endpoints that are worse than the others: fewer successes, or longer calls.

An endpoint is compared with the median of the *others*: see
`shifter.policy.balance.ejection`.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection

from shifter.policy.balance.ejection import EjectionPolicy
from shifter.policy.balance.state import EndpointState


def compared(
    policy: EjectionPolicy, states: Collection[EndpointState]
) -> list[tuple[EndpointState, str, bool]]:
    """The endpoints that are worse than the others, the worst first.

    Args:
        policy: When an endpoint is worse.
        states: The endpoints that are called, with the counts of one interval.

    Returns:
        For each why it is worse, and whether that is because it is slow.
    """
    known = [state for state in states if state.health.calls >= policy.min_calls]
    if len(known) < max(2, policy.min_endpoints):
        return []
    rates = [1 - one.health.failures / one.health.calls for one in known]
    means = [one.health.took_s / one.health.calls for one in known]
    rate_of, mean_of = _Others(rates), _Others(means)
    found: list[tuple[float, int, str, bool]] = []
    for place, (rate, mean) in enumerate(zip(rates, means, strict=True)):
        others_rate, others_mean = rate_of.median(rate), mean_of.median(mean)
        if rate < others_rate - policy.success_margin:
            why = f"{rate:.0%} of its calls succeeded, {others_rate:.0%} elsewhere"
            found.append((rate - 1, place, why, False))
        elif mean > others_mean * policy.slow_factor and others_mean > 0:
            why = f"{mean * 1e3:.0f} ms a call, {others_mean * 1e3:.0f} ms elsewhere"
            found.append((others_mean / mean, place, why, True))
    return [(known[at], why, is_slow) for _, at, why, is_slow in sorted(found)]


class _Others:
    """The median of some values without one of them."""

    def __init__(self, values: list[float]) -> None:
        self._sorted = sorted(values)

    def median(self, without: float) -> float:
        others = self._sorted.copy()
        others.remove(without)
        return statistics.median(others)
