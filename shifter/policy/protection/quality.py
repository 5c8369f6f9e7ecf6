"""Which quality the fleet serves at.

One step at a time, and with hysteresis in both directions: load lowers it only when it
stayed above one mark for a while, raises it only when it stayed below a lower mark for
a longer while. Between the marks nothing changes, so a load that swings around a mark
does not make the quality swing. Source: brownout (Klein et al., ICSE 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
class QualityOverride:
    """Somebody set it.

    Attributes:
        quality: To this.
        owner: Who.
        reason: Why.
        until_ms: From here on load decides again.
    """

    quality: Quality
    owner: str
    reason: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class QualityState:
    """What load says, and since when it says something else.

    Attributes:
        quality: By load.
        high_since_ms: Since when the load is at or above ``lower_at``, if it is.
        low_since_ms: Since when it is at or below ``raise_at``, if it is.
        by_hand: Holds over load, while it lasts.
    """

    quality: Quality = Quality.FULL
    high_since_ms: int | None = None
    low_since_ms: int | None = None
    by_hand: QualityOverride | None = None


def observe(
    policy: QualityPolicy, state: QualityState, *, load: float, now_ms: int
) -> QualityState:
    """The state after the load was seen; a load that is no number changes nothing.

    Pure.
    """
    if load >= policy.lower_at:
        since_ms = now_ms if state.high_since_ms is None else state.high_since_ms
        if now_ms - since_ms >= policy.lower_after_ms:
            return _moved(state, 1, high_since_ms=now_ms)
        return replace(state, high_since_ms=since_ms, low_since_ms=None)
    if load <= policy.raise_at:
        since_ms = now_ms if state.low_since_ms is None else state.low_since_ms
        if now_ms - since_ms >= policy.raise_after_ms:
            return _moved(state, -1, low_since_ms=now_ms)
        return replace(state, high_since_ms=None, low_since_ms=since_ms)
    if load == load:  # noqa: PLR0124  # NaN is not equal to itself
        return replace(state, high_since_ms=None, low_since_ms=None)
    return state


def in_force(state: QualityState, *, now_ms: int) -> Quality:
    """The quality to serve at: the one set by hand while it lasts, else by load."""
    by_hand = state.by_hand
    if by_hand is not None and now_ms < by_hand.until_ms:
        return by_hand.quality
    return state.quality


def _moved(
    state: QualityState,
    step: int,
    *,
    high_since_ms: int | None = None,
    low_since_ms: int | None = None,
) -> QualityState:
    index = min(max(0, _STEPS.index(state.quality) + step), len(_STEPS) - 1)
    return QualityState(_STEPS[index], high_since_ms, low_since_ms, state.by_hand)


def is_spared(quality: Quality, rank: int) -> bool:
    """Whether a job of this rank gets its cheaper answer at this quality. Pure."""
    if quality is Quality.FULL:
        return False
    return rank < (_CRITICAL if quality is Quality.MINIMAL else _HIGH)
