"""Settings of load balancing between the endpoints of one dependency."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from shifter.errors import ConfigError
from shifter.policy.balance.ejection import EjectionPolicy
from shifter.policy.bounds import check_at_least, check_ratio


class Choice(StrEnum):
    """How the endpoint of a call is chosen.

    Attributes:
        PEAK_EWMA: Two are drawn; the one with the smaller latency x (calls under way
            + 1) is called.
        LEAST_REQUEST: Two are drawn; the one with fewer calls under way is called.
        ROUND_ROBIN: In turns, by weight.
        HASH: By the call's ``key``: equal keys go to the same endpoint, unless it has
            more than its share of the calls under way.
    """

    PEAK_EWMA = "peak_ewma"
    LEAST_REQUEST = "least_request"
    ROUND_ROBIN = "round_robin"
    HASH = "hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancePolicy:
    """How calls are shared between the endpoints of a dependency.

    Sources: Finagle and Linkerd (power of two choices, peak EWMA, decay of 10 s); Envoy
    (slow start with 10 % of the weight at first, overload factor 1.25 of the hash).

    Attributes:
        choice: The algorithm: a word of `Choice`.
        ejection: When an endpoint gets no calls for a while.
        decay_ms: After so long a latency that was seen counts for a third, >= 1.
        failure_ms: A failed call counts as one of this latency at least, >= 0: an
            endpoint that fails at once must not look fast.
        slow_start_ms: A new endpoint, and one that was ejected, comes to its whole
            weight within this time, >= 0.
        zone: The zone of this process. Endpoints of the same zone are called first.
        zone_factor: Another zone is called when the load of an endpoint there is
            smaller by this factor, >= 1.
        hash_load: An endpoint that a key leads to has at most this many times the mean
            of calls under way, above 1.
        hedge_share: Second calls of ``hedge=``, as a share of the calls; above 0, up
            to 1.
        subset: How many endpoints this process calls, >= 1, so that a fleet keeps few
            connections; ``None`` for all. See `shifter.policy.balance.subset`.

    Raises:
        ConfigError: A value is out of its range.
    """

    choice: Choice | str = Choice.PEAK_EWMA
    ejection: EjectionPolicy = field(default_factory=EjectionPolicy)
    decay_ms: int = 10_000
    failure_ms: int = 5_000
    slow_start_ms: int = 10_000
    zone: str | None = None
    zone_factor: float = 3.0
    hash_load: float = 1.25
    hedge_share: float = 0.05
    subset: int | None = None

    def __post_init__(self) -> None:
        if self.choice not in list(Choice):
            want = f"use one of {', '.join(Choice)}"
            raise ConfigError("choice", self.choice, want)
        object.__setattr__(self, "choice", Choice(self.choice))
        check_at_least("decay_ms", self.decay_ms, 1)
        check_at_least("failure_ms", self.failure_ms, 0)
        check_at_least("slow_start_ms", self.slow_start_ms, 0)
        if self.subset is not None:
            check_at_least("subset", self.subset, 1)
            if self.choice is Choice.HASH:
                want = "leave it out: with 'hash' each process calls all endpoints"
                raise ConfigError("subset", self.subset, want)
        check_ratio("hedge_share", self.hedge_share)
        check_ratio("zone_factor", self.zone_factor, most=1_000)
        check_ratio("hash_load", self.hash_load, most=1_000)
        for name, value in (
            ("zone_factor", self.zone_factor),
            ("hash_load", self.hash_load),
        ):
            if value <= 1:
                raise ConfigError(name, value, "use a number above 1, up to 1000")
