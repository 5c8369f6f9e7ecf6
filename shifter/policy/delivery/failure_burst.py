"""Bursts of one failure: dead letters that implicate the dependency, not the jobs.

One kind of failure that ends a large share of a lane's jobs is no property of the jobs:
the dependency is *suspected*, and jobs are parked without spending attempts, instead of
filling the dead-letter topic with jobs that succeed after a fix.

The kinds are bounded: those beyond the bound are counted together, and that sum never
raises a suspicion. Source: uForwarder's dead-letter tokens (window of five minutes).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shifter.policy.bounds import check_at_least, check_ratio
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

_KINDS_MOST = 32
"""Fingerprints counted apart: the memory of a lane stays bounded, and a dependency
that fails does so in few ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureBurstPolicy:
    """Settings of a dead-letter budget.

    Attributes:
        window: What is counted.
        ratio: Share of the ended jobs that may die of one kind, in (0, 1].
        min_dead: Fewer of a kind raise no suspicion, >= 1.

    Raises:
        ConfigError: A value is out of its range.
    """

    window: WindowPolicy = field(
        default_factory=lambda: WindowPolicy(length_ms=300_000, buckets=10)
    )
    ratio: float = 0.2
    min_dead: int = 20

    def __post_init__(self) -> None:
        check_ratio("ratio", self.ratio)
        check_at_least("min_dead", self.min_dead, 1)


class FailureBurst:
    """Counts how the jobs of one lane end. Belongs to one thread."""

    __slots__ = ("_ended", "_kinds", "_policy")

    def __init__(self, policy: FailureBurstPolicy) -> None:
        self._policy = policy
        self._ended = SlidingWindow(policy.window, 1)
        self._kinds: dict[str, SlidingWindow] = {}

    def record(self, now_ms: int, fingerprint: str | None = None) -> None:
        """Note that a job ended: dead of this kind, or without a kind otherwise."""
        self._ended.add(now_ms, 0)
        if fingerprint is None:
            return
        kind = self._kinds.get(fingerprint)
        if kind is None:
            kind = self._enter(now_ms, fingerprint)
        if kind is not None:
            kind.add(now_ms, 0)

    def suspected(self, now_ms: int) -> str | None:
        """The most frequent kind if it ends too many jobs, else ``None``."""
        ended = self._ended.totals(now_ms)[0]
        dead, kind = max(
            ((w.totals(now_ms)[0], kind) for kind, w in self._kinds.items()),
            default=(0, ""),
        )
        is_suspect = dead >= self._policy.min_dead and dead > self._policy.ratio * ended
        return kind if is_suspect else None

    def _enter(self, now_ms: int, fingerprint: str) -> SlidingWindow | None:
        """Room for a new kind, at the cost of one that was not met for a window."""
        if len(self._kinds) >= _KINDS_MOST:
            silent = (k for k, w in self._kinds.items() if not w.totals(now_ms)[0])
            gone = next(silent, None)
            if gone is None:
                return None
            del self._kinds[gone]
        return self._kinds.setdefault(
            fingerprint, SlidingWindow(self._policy.window, 1)
        )
