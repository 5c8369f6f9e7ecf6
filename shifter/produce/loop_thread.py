"""A daemon thread with an event loop of its own, for what runs beside a service.

At the interpreter's end nothing can be scheduled on threads any more, before any
function of `atexit` is called. What still runs then is asked to end first, and what it
raises afterwards says nothing about the service: it is dropped.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final

from shifter.runtime.forking import renew_in_child

_EXIT_S: Final = 0.5
"""How long the interpreter's end waits for all of them together."""


class LoopThread:
    """Runs one coroutine until it is asked to stop.

    Args:
        main: Given an event that is set when it should end.
        name: The thread's.
    """

    def __init__(
        self, main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, name: str
    ) -> None:
        self._main = main
        self._is_stopping, self._is_exiting = threading.Event(), False
        self._asked: Callable[[], object] = _nothing
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        renew_in_child(self._after_fork)
        _running.add(self)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end; blocks until it has, up to the timeout."""
        _running.discard(self)
        self._is_stopping.set()
        # A loop that has ended takes no calls.
        with contextlib.suppress(RuntimeError):
            self._asked()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def exit(self, timeout_s: float) -> None:
        """The same at the interpreter's end."""
        self._is_exiting = True
        self.stop(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException:
            if not self._is_exiting:
                raise

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._asked = lambda: loop.call_soon_threadsafe(stopped.set)
        if self._is_stopping.is_set():
            stopped.set()
        await self._main(stopped)

    def _after_fork(self) -> None:
        # The thread stayed with the parent, and so did its loop.
        self._asked = _nothing
        _running.discard(self)


_running: Final[weakref.WeakSet[LoopThread]] = weakref.WeakSet()


def _nothing() -> None:
    """What is asked of a loop that does not run here."""


def _exit() -> None:
    for thread in list(_running):
        thread.exit(_EXIT_S / max(1, len(_running)))


# Functions of `atexit` come too late: executors are shut down before them.
getattr(threading, "_register_atexit", atexit.register)(_exit)
