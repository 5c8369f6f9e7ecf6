"""How fast a run may go: a rate, reached slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_BATCH_S: Final = 0.025
UNLIMITED_RAMP_PER_S: Final = 5_000.0
"""Rate at the end of the slow start of a run that has no rate of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacePolicy:
    """How fast a run moves dead letters.

    Attributes:
        rate_per_s: Letters a second, > 0; ``None`` as fast as the log takes them.
        slow_start_s: Seconds until the run reaches that rate, >= 0.
        yields: Whether the run slows down for live jobs of the lanes it sends to.

    Raises:
        ValueError: A value is out of bounds.
    """

    rate_per_s: float | None = None
    slow_start_s: float = 5.0
    yields: bool = True

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and not 0 < self.rate_per_s < 1e9:
            raise ValueError(f"rate_per_s is {self.rate_per_s}; > 0")
        if not 0 <= self.slow_start_s <= 86_400:
            raise ValueError(f"slow_start_s is {self.slow_start_s}; 0 to a day")


def wait_s(policy: PacePolicy, count: int) -> float:
    """Seconds after its start at which a run may have moved ``count`` letters.

    The rate grows evenly from nothing during the slow start, so by ``t`` it has moved
    ``rate * t² / (2 * slow_start)``, and half a slow start's worth at its end.

    Pure; grows with ``count``.

    >>> policy = PacePolicy(rate_per_s=100, slow_start_s=10)
    >>> wait_s(policy, 500), wait_s(policy, 600), wait_s(PacePolicy(slow_start_s=0), 9)
    (10.0, 11.0, 0.0)
    """
    rate = policy.rate_per_s
    ramp = policy.slow_start_s
    if rate is None:
        at_end = UNLIMITED_RAMP_PER_S * ramp / 2
        if count >= at_end:
            return float(ramp)
        rate = UNLIMITED_RAMP_PER_S
    at_end = rate * ramp / 2
    if count <= at_end and ramp:
        return float((2 * ramp * count / rate) ** 0.5)
    return ramp + (count - at_end) / rate


def batch_size(policy: PacePolicy, moved: int, *, most: int) -> int:
    """Number of letters in one batch: at most a fortieth of a second's worth.

    Live jobs of the same lane wait behind a whole batch.

    >>> batch_size(PacePolicy(rate_per_s=1_000, slow_start_s=0), 0, most=2_000)
    25
    >>> batch_size(PacePolicy(slow_start_s=0), 0, most=2_000)
    2000
    """
    if wait_s(policy, moved + most) <= wait_s(policy, moved):
        return most
    low, high = 1, most
    until = wait_s(policy, moved) + _BATCH_S
    while low < high:
        middle = (low + high + 1) // 2
        if wait_s(policy, moved + middle) <= until:
            low = middle
        else:
            high = middle - 1
    return low
