"""Whole appends in memory."""

from __future__ import annotations

from collections.abc import Sequence

from shifter.adapters.memory.broker import MemoryLog
from shifter.errors import StoreUnavailableError
from shifter.ports import Record, Refused, Unknown


class MemoryAtomicLog:
    """`shifter.ports.AtomicLog` in memory.

    Args:
        log: The shared log.
        name: Of the sender.
        max_record_bytes: Largest record.
    """

    def __init__(
        self, log: MemoryLog, name: str, *, max_record_bytes: int = 1_000_000
    ) -> None:
        self._log, self._name, self._limit_bytes = log, name, max_record_bytes
        self._epoch = 0

    async def open(self) -> None:
        """Take the name over."""
        self._epoch = self._log.take_over(self._name)

    async def append(
        self,
        records: Sequence[Record],
        *,
        timeout_s: float,  # noqa: ARG002  # the port's; memory needs no time
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Raises:
            StoreUnavailableError: Another sender has the name, or a test plays an
                outage.
        """
        if not self._log.has_name(self._name, self._epoch):
            detail = f"another process sends as {self._name!r} now"
            raise StoreUnavailableError("memory", "append", detail)
        refused: dict[int, Refused] = {}
        for place, found in self._log.append_all(records, self._limit_bytes).items():
            if isinstance(found, Unknown):
                raise StoreUnavailableError("memory", "append", found.detail)
            refused[place] = found
        return refused

    async def close(self) -> None:
        """Nothing to free."""
