"""Which records have to go behind spooled ones of their key."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from shifter.ports import Record

_MOST_KEYS: Final = 100_000


class KeyGate:
    """Keeps the order of a key while its records wait in a spool.

    A key is held until every record of it that this process spooled was forwarded.
    Records that were there before are not known by key: while one of them waits, every
    key is held. So it is, too, when more keys wait than are kept here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, bytes], int] = {}
        self._floor = 0
        self._first: int | None = None
        self.is_open = True

    def holds(self, record: Record) -> bool:
        """Whether ``record`` would overtake one of its key."""
        if self.is_open or record.key is None:
            return False
        with self._lock:
            first = self._first
            if first is None:
                return False
            last = self._last.get((record.topic, record.key), 0)
            return first <= max(self._floor, last)

    def hold(self, pairs: Iterable[tuple[Record, int]]) -> None:
        """Note spooled records and their numbers."""
        with self._lock:
            for record, number in pairs:
                first = number if self._first is None else self._first
                self._first = min(first, number)
                if record.key is None:
                    continue
                self._last[record.topic, record.key] = number
                if len(self._last) > _MOST_KEYS:
                    self._last.clear()
                    self._floor = number
            self.is_open = self._first is None

    def move(self, first: int | None, *, floor: int | None = None) -> None:
        """Note that nothing below ``first`` waits any more; ``None``: nothing at all.

        Args:
            first: The oldest number that waits.
            floor: Hold every key up to this number.
        """
        with self._lock:
            self._first, self.is_open = first, first is None
            if floor is not None:
                self._floor = max(self._floor, floor)
            if first is None:
                self._last.clear()
                self._floor = 0
