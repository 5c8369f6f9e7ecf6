"""A thread pool of this package, for its blocking calls.

`asyncio.to_thread` uses the loop's default threads, six on two cores. Handlers use them
too, and so does each DNS lookup of asyncio: a DNS server that does not answer occupies
all of them for half a minute. Calls to the log and the state store, and the end of a
process, must not wait for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from shifter.runtime.forking import renew_in_child

P = ParamSpec("P")
T = TypeVar("T")

# More than a worker process has stores, feeds and movers that block at once.
_MOST: Final = 16


class _Threads:
    """One pool a process, made at first use; a forked child makes its own."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self.renew)

    def renew(self) -> None:
        """Forget threads that only the parent has."""
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The pool."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_MOST, thread_name_prefix="shifter-io")
        return self._pool


_THREADS: Final = _Threads()


async def in_thread(
    function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Like `asyncio.to_thread`, in a thread of this package.

    Args:
        function: Called in a copy of the caller's context.
        *args: Its arguments.
        **kwargs: Its arguments by name.

    Returns:
        What the function returns.

    Raises:
        Exception: What the function raises.
    """
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS.pool, call)
