"""The last guard of a reader of shared state: bad values become an error of the store.

Every value of a store is checked where it is read, and one that this package does not
write is ignored. A value that the checks miss must still end no process: its error is
converted to the one that every caller of a store expects.
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
        op: The operation.

    Raises:
        StoreRefusedError: The block could not read the answer.
    """
    try:
        yield
    except _MISREAD as error:
        detail = f"its answer cannot be read: {type(error).__name__}: {error}"[:200]
        raise StoreRefusedError(store, op, detail) from error
