"""What may leave a handler, by name."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable


class PanicException(BaseException):
    """As pyo3's: a panic in Rust becomes an exception that is no `Exception`."""


class GeventTimeout(BaseException):
    """As gevent's."""


class Unprintable(BaseException):
    def __str__(self) -> str:
        raise PanicException

    __repr__ = __str__


LEAVING: dict[str, Callable[[], BaseException]] = {
    "a Rust panic": lambda: PanicException("index out of bounds"),
    "gevent's timeout": lambda: GeventTimeout(3),
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(0),
    "CancelledError": asyncio.CancelledError,
    "CancelledError of a pool": concurrent.futures.CancelledError,
    "StopIteration": lambda: StopIteration(7),
    "StopAsyncIteration": StopAsyncIteration,
    "a group": lambda: BaseExceptionGroup("2", [PanicException(), ValueError()]),
    "one without a text": Unprintable,
}


def leave(how: str) -> None:
    """Raise what may leave a handler."""
    error = LEAVING[how]()
    raise error
