"""Which quality the fleet serves at.

One step at a time, and with hysteresis in both directions: load lowers it only when it
stayed above one mark for a while, raises it only when it stayed below a lower mark for
a longer while. Between the marks nothing changes, so a load that swings around a mark
does not make the quality swing. Source: brownout (Klein et al., ICSE 2014).
"""

from __future__ import annotations

from dataclasses import dataclass

from shifter.errors import ConfigError
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.policy.bounds import check_at_least, check_ratio

_STEPS = tuple(Quality)
_CRITICAL = Priority.CRITICAL.rank
_HIGH = Priority.HIGH.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPolicy:
    """Settings of the quality level. A load of 1 is all there is room for.

    Attributes:
        lower_at: Load from which it is lowered, in (0, 1000].
        raise_at: Load up to which it is raised, above 0 and below ``lower_at``.
        lower_after_ms: How long the load must have stayed there, >= 1.
        raise_after_ms: The same for raising, >= ``lower_after_ms``.

    Raises:
        ConfigError: A value is out of its range.
    """

    lower_at: float = 0.9
    raise_at: float = 0.6
    lower_after_ms: int = 2_000
    raise_after_ms: int = 10_000

    def __post_init__(self) -> None:
        check_ratio("lower_at", self.lower_at, most=1_000)
        check_ratio("raise_at", self.raise_at, most=1_000)
        if self.raise_at >= self.lower_at:
            want = f"must be below lower_at ({self.lower_at:g})"
            raise ConfigError("raise_at", self.raise_at, want)
        check_at_least("lower_after_ms", self.lower_after_ms, 1)
        check_at_least("raise_after_ms", self.raise_after_ms, self.lower_after_ms)


@dataclass(frozen=True, slots=True)
class QualityState:
    """The quality by load, and since when the load asks for another one.

    Attributes:
        quality: The quality by load.
        high_since_ms: Since when the load is at or above ``lower_at``, if it is.
        low_since_ms: Since when the load is at or below ``raise_at``, if it is.
    """

    quality: Quality = Quality.FULL
    high_since_ms: int | None = None
    low_since_ms: int | None = None


def observe(
    policy: QualityPolicy, state: QualityState, *, load: float, now_ms: int
) -> QualityState:
    """The state after the load was observed; NaN changes nothing. Pure.

    Args:
        policy: When load changes the quality.
        state: The state before.
        load: The load; 1 is all there is room for.
        now_ms: When it was observed.
    """
    if load >= policy.lower_at:
        since_ms = now_ms if state.high_since_ms is None else state.high_since_ms
        if now_ms - since_ms >= policy.lower_after_ms:
            return QualityState(_step(state.quality, 1), high_since_ms=now_ms)
        return QualityState(state.quality, high_since_ms=since_ms)
    if load <= policy.raise_at:
        since_ms = now_ms if state.low_since_ms is None else state.low_since_ms
        if now_ms - since_ms >= policy.raise_after_ms:
            return QualityState(_step(state.quality, -1), low_since_ms=now_ms)
        return QualityState(state.quality, low_since_ms=since_ms)
    if load == load:  # noqa: PLR0124  # NaN is not equal to itself
        return QualityState(state.quality)
    return state


def _step(quality: Quality, steps: int) -> Quality:
    index = _STEPS.index(quality) + steps
    return _STEPS[min(max(0, index), len(_STEPS) - 1)]


def is_spared(quality: Quality, rank: int) -> bool:
    """Whether a job of this rank gets its cheaper answer at this quality. Pure."""
    if quality is Quality.FULL:
        return False
    return rank < (_CRITICAL if quality is Quality.MINIMAL else _HIGH)
