"""How long a failed attempt waits before the next one.

The upper bound doubles with every attempt up to a cap, and the wait is one draw below
it: jobs that failed together do not return together. Whether there is a next attempt
at all is decided in `shifter.policy.delivery.retry`.

Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full
jitter"). Base and cap: design record, job defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from shifter.errors import ConfigError

_FIRST_RETRY = 2
"""The first attempt that waits; attempts count from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """Settings of the wait between two attempts.

    Attributes:
        base_ms: Upper bound before the second attempt, >= 1.
        cap_ms: Largest upper bound, >= ``base_ms``.

    Raises:
        ConfigError: A value is out of its range.
    """

    base_ms: int = 1_000
    cap_ms: int = 300_000

    def __post_init__(self) -> None:
        if self.base_ms < 1:
            raise ConfigError("base_ms", self.base_ms, "use at least 1 ms")
        if self.cap_ms < self.base_ms:
            want = f"must be at least base_ms ({self.base_ms} ms)"
            raise ConfigError("cap_ms", self.cap_ms, want)


def full_jitter(policy: BackoffPolicy, *, attempt: int, u: float) -> int:
    """Milliseconds to wait before ``attempt``.

    Uniform below `bound_ms`, so the expected wait is half of it and a wait of 0 is
    possible.

    Args:
        policy: Base and cap.
        attempt: The attempt being waited for, >= 2; the first never waits.
        u: One draw from [0, 1).

    Returns:
        Milliseconds in ``[0, bound_ms(policy, attempt=attempt))``.

    Raises:
        ValueError: ``attempt`` is below 2.

    Pure.

    >>> full_jitter(BackoffPolicy(base_ms=1_000, cap_ms=5_000), attempt=3, u=0.5)
    1000
    """
    return int(u * bound_ms(policy, attempt=attempt))


def bound_ms(policy: BackoffPolicy, *, attempt: int) -> int:
    """The upper bound of the wait before ``attempt``, itself excluded.

    ``min(cap_ms, base_ms * 2 ** (attempt - 2))``; as cheap for the millionth attempt
    as for the second.

    Raises:
        ValueError: ``attempt`` is below 2.
    """
    if attempt < _FIRST_RETRY:
        raise ValueError(f"attempt is {attempt}; the first attempt never waits")
    # Doubling as often as the cap has bits is past the cap already.
    doublings = min(attempt - _FIRST_RETRY, policy.cap_ms.bit_length())
    return min(policy.cap_ms, policy.base_ms << doublings)
