"""What load decides for the whole fleet: the quality of answers, and a busy flag.

Every process applies the same rule to the mean load of the fleet. The first process
whose rule moves the quality proposes it, and the value of the cell holds for all.

The busy flag is a cell with an end, set by one busy process and renewed while its load
lasts. While it is set, no process starts opportunistic work. The flag of a process that
died ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from shifter.fleet.shared_state import (
    QUALITY,
    QUALITY_BY_HAND,
    OverrideCell,
    quality_text,
    read_quality,
    read_setting,
)
from shifter.model.answer import Quality
from shifter.model.fleet import MAX_INSTANT_MS, Proposal, read_whole
from shifter.policy.protection.quality import QualityPolicy, QualityState, observe
from shifter.ports import Clock

BUSY_CELL: Final = "load"
BUSY_MS: Final = 1_500
"""How long the busy flag holds; it is renewed when half of the time is over.

Half of it, 750 ms, is more than three syncs: a failed one does not end the flag.
"""


class CellOwner(Protocol):
    """Shares something with the fleet in cells of its own."""

    def propose(self) -> Iterable[Proposal]:
        """The cells to be set at the next sync."""

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read all cells; ``now_ms`` is the time by the store's clock."""


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


class BusyFlag:
    """One process's view of the flag. Belongs to the thread that syncs.

    Args:
        clock: Wall time.
        is_busy: Whether this process has load; ``None`` if it never sets the flag.

    Attributes:
        until_ms: When the flag ends, by this process's wall clock; 0 if it is not set.
    """

    def __init__(self, clock: Clock, is_busy: Callable[[], bool] | None = None) -> None:
        self._clock, self.is_busy = clock, is_busy
        self._text, self.until_ms = b"", 0
        self._ahead_ms: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether some process has load, as of the last sync."""
        return self._clock.epoch_ms() < self.until_ms

    def propose(self) -> Iterable[Proposal]:
        """Set or renew the flag, if this process is busy."""
        now, ahead_ms = self._clock.epoch_ms(), self._ahead_ms
        if ahead_ms is None or self.until_ms - now > BUSY_MS // 2:
            return
        if self.is_busy is not None and self.is_busy():
            yield Proposal(BUSY_CELL, self._text, b"%d" % (now - ahead_ms + BUSY_MS))

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read the flag; ``now_ms`` is the store's clock."""
        self._ahead_ms = self._clock.epoch_ms() - now_ms
        self._text = cells.get(BUSY_CELL, b"")
        # A forged or broken end delays opportunistic work no longer than a flag does.
        found = read_whole(self._text.decode("latin-1"), MAX_INSTANT_MS)
        until_ms = 0 if found is None else min(found, now_ms + BUSY_MS)
        self.until_ms = until_ms + self._ahead_ms
