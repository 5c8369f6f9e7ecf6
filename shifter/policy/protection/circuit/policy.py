"""Settings of a circuit, and how long it stays open.

Source: Brooker, "Exponential Backoff and Jitter" (equal jitter: half of the bound is
certain).
"""

from __future__ import annotations

from dataclasses import dataclass

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """Settings of a circuit.

    Attributes:
        cooldown_ms: Bound of the first cooldown, doubled each time; >= 1.
        max_cooldown_ms: Largest bound, >= ``cooldown_ms``.
        max_retry_after_ms: Longest wait that the dependency may ask for, >= 1.
        probes: Probes at once, in the whole fleet, >= 1.
        probe_successes: Successful probes that close the circuit, >= 1.
        probe_lease_ms: A probe without a result for so long is given up, >= 1; at least
            the longest timeout of the jobs that use the dependency (`check_lease`).
        ramp_ms: After the circuit closed, the rate of calls doubles with each eighth
            of this time, until no call is refused; >= 0, 0 for no ramp.

    Raises:
        ConfigError: A value is out of its range.
    """

    cooldown_ms: int = 5_000
    max_cooldown_ms: int = 60_000
    max_retry_after_ms: int = 300_000
    probes: int = 1
    probe_successes: int = 1
    probe_lease_ms: int = 60_000
    ramp_ms: int = 2_000

    def __post_init__(self) -> None:
        for name in ("cooldown_ms", "probes", "probe_successes", "probe_lease_ms"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("max_cooldown_ms", self.max_cooldown_ms, self.cooldown_ms)
        check_at_least("max_retry_after_ms", self.max_retry_after_ms, 1)
        check_at_least("ramp_ms", self.ramp_ms, 0)


def check_lease(policy: CircuitPolicy, *, timeout_ms: int) -> None:
    """Refuse a probe's lease that is shorter than the calls it covers.

    A probe that outlives its lease is given up while it runs: more would run at once
    than are allowed, and none would count.

    Raises:
        ConfigError: ``probe_lease_ms`` is below ``timeout_ms``.
    """
    if policy.probe_lease_ms < timeout_ms:
        want = f"must be at least the handler's timeout ({timeout_ms} ms)"
        raise ConfigError("probe_lease_ms", policy.probe_lease_ms, want)


def cooldown_ms(
    policy: CircuitPolicy, *, openings: int, u: float, first_ms: int = 0
) -> int:
    """Milliseconds for which the circuit stays open.

    It lies between half of its bound and the bound (equal jitter).

    Args:
        policy: First and largest bound.
        openings: Openings since the circuit was last closed, >= 1.
        u: One draw from [0, 1).
        first_ms: Bound of the first cooldown, for the kind of failure; 0 for the
            policy's. The largest bound is the policy's, or this one if it is larger.

    >>> cooldown_ms(CircuitPolicy(cooldown_ms=1_000), openings=3, u=0.5)
    3000
    >>> cooldown_ms(CircuitPolicy(), openings=2, u=0.5, first_ms=300_000)
    225000
    """
    first_ms = first_ms or policy.cooldown_ms
    most_ms = max(policy.max_cooldown_ms, first_ms)
    doublings = min(openings - 1, most_ms.bit_length())
    bound_ms = min(most_ms, first_ms << doublings)
    certain_ms = (bound_ms + 1) // 2
    return certain_ms + int(u * (bound_ms - certain_ms))
