"""The quality that the fleet serves at, as one process sees it.

Every process applies the same rule to the mean load of the fleet. The first process
whose rule moves the quality proposes it, and the value of the cell holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shifter.fleet.shared_state import (
    QUALITY,
    QUALITY_BY_HAND,
    OverrideCell,
    quality_text,
    read_quality,
    read_setting,
)
from shifter.model.answer import Quality
from shifter.model.fleet import Proposal
from shifter.policy.protection.quality import QualityPolicy, QualityState, observe


class FleetQuality:
    """The fleet's quality. Belongs to one thread; any may call `in_force`.

    Args:
        policy: When load lowers it; ``None`` never.

    Attributes:
        by_load: The quality by load, as the fleet agreed.
    """

    def __init__(self, policy: QualityPolicy | None) -> None:
        self._policy = policy
        self._observed = QualityState()
        self._text = b""
        self._by_hand: OverrideCell | None = None
        self.by_load = Quality.FULL

    @property
    def is_by_hand(self) -> bool:
        """Whether an operator has set it; the override may have ended."""
        return self._by_hand is not None

    def in_force(self, store_ms: int) -> Quality:
        """The one set by hand while it lasts, else by load."""
        setting = self._by_hand
        if setting is not None and store_ms < setting.until_ms:
            return Quality(setting.to)
        return self.by_load

    def propose(self) -> Proposal | None:
        """Propose the quality by load, if it differs from the fleet's."""
        if self._policy is None or self._observed.quality is self.by_load:
            return None
        return Proposal(QUALITY, self._text, quality_text(self._observed.quality))

    def observe(self, loads: Sequence[float], now_ms: int) -> None:
        """Apply the rule to the loads of all processes."""
        if self._policy is None or not loads:
            return
        load = sum(loads) / len(loads)
        self._observed = observe(self._policy, self._observed, load=load, now_ms=now_ms)

    def learn(self, cells: Mapping[str, bytes]) -> int:
        """Read the cells; return how many could not be read."""
        text = cells.get(QUALITY_BY_HAND)
        setting = None if text is None else read_setting(text)
        is_one = setting is not None and setting.to in set(Quality)
        self._by_hand = setting if is_one else None
        before, self._text = self._text, cells.get(QUALITY, b"")
        quality = read_quality(self._text)
        if quality is not None and quality is not self.by_load:
            self.by_load = quality
            self._observed = QualityState(quality)
        is_new = self._text != before
        is_strange = bool(self._text) and quality is None and is_new
        return (text is not None and not is_one) + is_strange
