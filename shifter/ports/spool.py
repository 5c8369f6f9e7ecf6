"""Records kept on this machine while the log is away."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from shifter.ports.log import Record

NUMBER_SHIFT: Final = 20
"""Bits of a number that count the records of one millisecond."""


class SpoolEntry(NamedTuple):
    """A record in a spool.

    Attributes:
        number: Ascending in the order in which records were handed over: the epoch
            milliseconds of that, shifted by `NUMBER_SHIFT`, and a count.
        record: As it goes to the log.
    """

    number: int
    record: Record


class SpoolDepth(NamedTuple):
    """What is in a spool.

    Attributes:
        waiting: Records to be forwarded.
        refused: Records that the log refused; tried again when nothing else waits.
        oldest_ms: When the oldest waiting one was spooled; ``None`` if none.
        first: Its number; ``None`` if none.
        used: Part of the allowed size that is used, from 0.0.
    """

    waiting: int
    refused: int
    oldest_ms: int | None
    first: int | None
    used: float


class Spool(Protocol):
    """Records kept on this machine while the log is away. Everything here blocks.

    Safe to share between threads; several processes may share one place.

    Raises:
        StoreUnavailableError, StoreRefusedError: From any method.
    """

    def put(self, entries: Sequence[SpoolEntry], *, timeout_s: float) -> list[int]:
        """Make records durable, all or none.

        Returns:
            Their numbers: those wanted, or the next that are free.
        """

    def take(self, most: int, *, before: int | None = None) -> list[SpoolEntry]:
        """The oldest records that wait, below a number, in order; they stay."""

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget records that are in the log."""

    def set_aside(self, number: int, detail: str) -> None:
        """Keep a record that the log refuses apart from those that wait."""

    def put_back(self) -> int:
        """Let refused records wait again, in their places; returns their number."""

    def depth(self) -> SpoolDepth:
        """The present contents; cheap."""

    def forwarding(self) -> AbstractContextManager[bool]:
        """Hold the right to forward; yields ``False`` while another process has it."""

    def close(self) -> None:
        """Free everything; the records stay."""
