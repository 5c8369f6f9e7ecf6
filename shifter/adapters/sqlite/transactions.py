"""What the tables of the fleet's state need of the database that holds them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Transactions(Protocol):
    """One file, as one process sees it; `Database` is the real one.

    Raises:
        StoreUnavailableError, StoreRefusedError: From any method.
    """

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` in a write transaction; its answer, once that is durable.

        ``fn`` may run again from the start where others of its transaction failed.
        """

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on what is committed."""

    async def close(self) -> None:
        """Give this share back; call it once. The last one frees everything."""
