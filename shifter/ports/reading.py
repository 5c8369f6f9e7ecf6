"""The last guard of a shared store's reader: what it cannot read is the store's fault.

Every value of a store is checked where it is read, and one that is none of ours is
passed over. A value that slips through must still end no process: its error becomes the
one that every caller of a store expects.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Final

from shifter.errors import StoreRefusedError

_MISREAD: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@contextlib.contextmanager
def understood(store: str, op: str) -> Generator[None]:
    """Read a store's answer while the block runs.

    Args:
        store: The store with its address, without credentials.
        op: What was asked of it.

    Raises:
        StoreRefusedError: The block could not make sense of the answer.
    """
    try:
        yield
    except _MISREAD as error:
        detail = f"its answer cannot be read: {type(error).__name__}: {error}"[:200]
        raise StoreRefusedError(store, op, detail) from error
