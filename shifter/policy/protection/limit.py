"""The number of calls that one process makes to a dependency at once.

Once a window, the limit moves by one step or stays, depending on the window's sample:

1. *Down* by a tenth when calls were dropped, or when the slow ones took longer than the
   stated objective. The objective is absolute, so the limit cannot climb while
   everything is equally slow.
2. *Down* by a step when the queue that the limit seems to cause (Vegas) is long, or
   when the process used its limit and more calls at once brought no more throughput,
   only more latency (the *correlation veto*).
3. *Up* by a step when the queue is short, the process used its limit, the objective is
   met and the veto does not hold.

Lower priorities may fill the limit only up to their ceiling, so that the rest is free
for more urgent calls. A limit of one call is open to every priority.

Sources: failsafe-go's adaptive limiter (correlations, alpha, beta, at most five times
what is in flight); Netflix concurrency-limits (Vegas, AIMD, used at least by half).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.bounds import check_at_least, check_ratio

_HISTORY = 50
"""Windows that are correlated. Source: failsafe-go's correlation window."""

_LEAST_HISTORY = 10
"""Fewer windows give no correlation: with three of them, noise alone exceeds 0.5."""

_BASELINE_AGE = 10
"""Age of the baseline in windows, so its gain is 2 / (10 + 1).

The formula is that of an exponential moving average of this length.
"""

_BACKOFF = 0.9
"""Factor of a step down. Source: Netflix concurrency-limits, AIMD's backoff ratio."""

_MOST_PER_INFLIGHT = 5
"""The limit is at most this many times the calls in flight.

Source: failsafe-go's adaptive limiter. An unused limit would otherwise grow until it no
longer protects anything.
"""

_CEILING = (0.6, 0.85, 0.95, 1.0)
"""Share of the limit that ``LOW`` … ``CRITICAL`` may fill, by rank.

Of 20 calls, ``LOW`` leaves eight to the others and ``HIGH`` leaves one to ``CRITICAL``.
"""


class LimitMode(StrEnum):
    """What the limit does."""

    ADAPTIVE = "adaptive"
    FIXED = "fixed"
    SHADOW = "shadow"
    """Learns like an adaptive one and refuses nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """Settings of a concurrency limit.

    Attributes:
        mode: See `LimitMode`; a fixed limit stays at ``initial``.
        initial: Calls at once at the start, from ``minimum`` to ``maximum``.
        minimum: Never fewer, >= 1.
        maximum: Never more, >= ``minimum``.
        objective_ms: Slow calls (p90) should take no longer, >= 1; ``None``: unstated.
        min_samples: A window with fewer calls is not judged, >= 1.
        tolerance: Latency over the baseline that is no queue yet, 1-10.

    Raises:
        ConfigError: A value is out of its range.
    """

    mode: LimitMode = LimitMode.ADAPTIVE
    initial: int = 20
    minimum: int = 1
    maximum: int = 200
    objective_ms: int | None = None
    min_samples: int = 50
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("minimum", self.minimum, 1)
        check_at_least("maximum", self.maximum, self.minimum)
        check_at_least("initial", self.initial, self.minimum)
        if self.initial > self.maximum:
            want = f"must be at most maximum ({self.maximum})"
            raise ConfigError("initial", self.initial, want)
        if self.objective_ms is not None:
            check_at_least("objective_ms", self.objective_ms, 1)
        check_at_least("min_samples", self.min_samples, 1)
        check_ratio("tolerance", self.tolerance, most=10)
        if self.tolerance < 1:
            raise ConfigError("tolerance", self.tolerance, "use a number from 1 to 10")


class LimitSample(NamedTuple):
    """The calls of one window.

    Attributes:
        calls: Ended calls.
        inflight: Calls at once, on average.
        per_s: Calls that ended a second.
        p90_ms: Latency that nine of ten stayed below, > 0.
        dropped: Calls that timed out or were throttled.
    """

    calls: int
    inflight: float
    per_s: float
    p90_ms: float
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LimitState:
    """The limit that was learnt.

    Attributes:
        limit: Calls at once; fractions add up over windows.
        baseline_ms: Latency without a queue, smoothed; ``None`` at the start.
        history: The last windows, oldest first.
    """

    limit: float
    baseline_ms: float | None = None
    history: tuple[LimitSample, ...] = ()


def adjust(policy: LimitPolicy, state: LimitState, sample: LimitSample) -> LimitState:
    """Learn from one window of calls. Pure.

    Args:
        policy: The policy of the limit.
        state: The state before the window.
        sample: The calls of the window.

    Returns:
        The state afterwards, the same object if the window has too few calls.
    """
    is_fixed = policy.mode is LimitMode.FIXED
    if is_fixed or sample.calls < policy.min_samples or not sample.p90_ms > 0:
        return state
    history = (*state.history[1 - _HISTORY :], sample)
    before_ms = sample.p90_ms if state.baseline_ms is None else state.baseline_ms
    wanted = _wanted(policy, state.limit, history, baseline_ms=before_ms)
    limit = min(max(float(policy.minimum), wanted), float(policy.maximum))
    # A faster window lowers the baseline at once; a slower one has to last, since a
    # queue of our own making is slow as well.
    drift_ms = (sample.p90_ms - before_ms) * 2 / (_BASELINE_AGE + 1)
    return LimitState(limit, min(sample.p90_ms, before_ms + drift_ms), history)


def may_start(limit: float, inflight: int, priority: Priority) -> bool:
    """Whether one more call may begin. Pure.

    Args:
        limit: The limit now, >= 1.
        inflight: Calls of all priorities under way.
        priority: The priority of the job that is to call.
    """
    return inflight < int(limit) * _CEILING[priority.rank]


def _wanted(
    policy: LimitPolicy,
    limit: float,
    history: Sequence[LimitSample],
    *,
    baseline_ms: float,
) -> float:
    sample = history[-1]
    objective_ms = policy.objective_ms
    is_late = objective_ms is not None and sample.p90_ms > objective_ms
    if sample.dropped or is_late:
        return limit * _BACKOFF
    step = max(1.0, math.log10(limit))
    queue = limit * (1 - policy.tolerance * baseline_ms / sample.p90_ms)
    is_used = 2 * sample.inflight >= limit
    if queue > 6 * step or (is_used and _is_vain(history)):
        return limit - step
    if queue < 3 * step and is_used:
        most = max(1.0, _MOST_PER_INFLIGHT * sample.inflight)
        return max(limit, min(limit + step, most))
    return limit


def _is_vain(history: Sequence[LimitSample]) -> bool:
    """Whether more calls at once brought more latency and no more throughput."""
    if len(history) < _LEAST_HISTORY:
        return False
    inflight = [sample.inflight for sample in history]
    per_s = [sample.per_s for sample in history]
    with_throughput = correlation(inflight, per_s)
    with_latency = correlation(inflight, [sample.p90_ms for sample in history])
    return with_latency > 0.5 and with_throughput < 0.3


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's coefficient, in [-1, 1]; 0 where one of them does not vary.

    >>> correlation([1, 2, 3], [2, 4, 6]), correlation([1, 2, 3], [5, 5, 5])
    (1.0, 0.0)
    """
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    spread_x = math.fsum((x - mean_x) ** 2 for x in xs)
    spread_y = math.fsum((y - mean_y) ** 2 for y in ys)
    together = math.fsum(
        (x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)
    )
    both = math.sqrt(spread_x * spread_y)
    return max(-1.0, min(1.0, together / both)) if both > 0 else 0.0
