"""A sign that a process sets for all: there is load, leave the rest for later.

A cell with an end, set anew while the load lasts. Whoever reads it starts no work that
waits for a quiet time; a process that died with it set is forgotten at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from shifter.model.fleet import Proposal
from shifter.model.number import MAX_INSTANT_MS, read_whole
from shifter.ports import Clock

CELL: Final = "load"
HOLD_MS: Final = 1_500
"""How long a sign holds; it is renewed when half of it is over."""


class BusyFlag:
    """One process's side of it. Belongs to whoever syncs.

    Args:
        clock: Wall time.
        is_busy: Whether this process has load; ``None`` for one that sets no sign.

    Attributes:
        until_ms: When the sign ends, by this process's wall clock; 0 without one.
    """

    def __init__(self, clock: Clock, is_busy: Callable[[], bool] | None = None) -> None:
        self._clock, self.is_busy = clock, is_busy
        self._text, self.until_ms = b"", 0
        self._ahead_ms: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether some process has load, as far as is known."""
        return self._clock.epoch_ms() < self.until_ms

    def propose(self) -> Iterable[Proposal]:
        """Set it, or set it anew."""
        now, ahead_ms = self._clock.epoch_ms(), self._ahead_ms
        if ahead_ms is None or self.until_ms - now > HOLD_MS // 2:
            return
        if self.is_busy is not None and self.is_busy():
            yield Proposal(CELL, self._text, b"%d" % (now - ahead_ms + HOLD_MS))

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Take in what is set; ``now_ms`` is the store's clock."""
        self._ahead_ms = self._clock.epoch_ms() - now_ms
        self._text = cells.get(CELL, b"")
        # A forged or broken end delays opportunistic work no longer than a sign does.
        found = read_whole(self._text.decode("latin-1"), MAX_INSTANT_MS)
        until_ms = 0 if found is None else min(found, now_ms + HOLD_MS)
        self.until_ms = until_ms + self._ahead_ms
