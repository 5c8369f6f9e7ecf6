"""A flag that one busy process sets for the fleet: opportunistic work has to wait.

The flag is a cell with an end, renewed while the load lasts. While it is set, no
process starts work that waits for a quiet time. The flag of a process that died ends by
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from shifter.model.fleet import MAX_INSTANT_MS, Proposal, read_whole
from shifter.ports import Clock

CELL: Final = "load"
HOLD_MS: Final = 1_500
"""How long the flag holds; it is renewed when half of the time is over.

Half of it, 750 ms, is more than three syncs: one that fails does not end the flag.
"""


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
        if ahead_ms is None or self.until_ms - now > HOLD_MS // 2:
            return
        if self.is_busy is not None and self.is_busy():
            yield Proposal(CELL, self._text, b"%d" % (now - ahead_ms + HOLD_MS))

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read the flag; ``now_ms`` is the store's clock."""
        self._ahead_ms = self._clock.epoch_ms() - now_ms
        self._text = cells.get(CELL, b"")
        # A forged or broken end delays opportunistic work no longer than a flag does.
        found = read_whole(self._text.decode("latin-1"), MAX_INSTANT_MS)
        until_ms = 0 if found is None else min(found, now_ms + HOLD_MS)
        self.until_ms = until_ms + self._ahead_ms
