"""How many calls to a dependency this process has under way, and how many it may."""

from __future__ import annotations

from shifter.model.priority import Priority
from shifter.policy.protection.limit import (
    LimitMode,
    LimitPolicy,
    LimitSample,
    LimitState,
    adjust,
    may_start,
)

_WINDOW_MS = 1_000
_P90 = 0.9


class LimitGate:
    """Counts calls and learns from them. Belongs to one thread.

    Args:
        policy: The limit's.

    Attributes:
        inflight: Calls under way.
        state: What was learnt.
    """

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self._is_shadow = policy.mode is LimitMode.SHADOW
        self.state = LimitState(float(policy.initial))
        self.inflight = self._dropped = 0
        self._took_ms: list[int] = []
        self._since_ms: int | None = None

    def has_room(self, priority: Priority) -> bool:
        """Whether one more call may begin."""
        return self._is_shadow or may_start(self.state.limit, self.inflight, priority)

    def begin(self) -> None:
        """A call begins."""
        self.inflight += 1

    def end(self, *, took_ms: int | None, was_dropped: bool, now_ms: int) -> None:
        """A call ended.

        Args:
            took_ms: How long it took; ``None`` if that says nothing.
            was_dropped: Whether it timed out or was throttled.
            now_ms: When.
        """
        self.inflight -= 1
        self._dropped += was_dropped
        if took_ms is not None:
            self._took_ms.append(took_ms)
        if self._since_ms is None:
            self._since_ms = now_ms
        elif now_ms - self._since_ms >= _WINDOW_MS:
            self._learn(now_ms - self._since_ms)
            self._since_ms = now_ms

    def _learn(self, passed_ms: int) -> None:
        took, dropped = sorted(self._took_ms), self._dropped
        self._took_ms, self._dropped = [], 0
        if not took:
            return
        sample = LimitSample(
            len(took),
            sum(took) / passed_ms,  # Little's law
            len(took) * 1_000 / passed_ms,
            max(0.5, float(took[int(len(took) * _P90)])),
            dropped,
        )
        self.state = adjust(self._policy, self.state, sample)
