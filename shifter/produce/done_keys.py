"""Asks the state store, before a job is written, who had the effect of its key.

A repeat of an idempotency key that is done would be written, fetched, claimed and then
settled without an effect. It is answered at once instead. Only a job with such a key
asks. The question goes over a thread of its own, so that one connection serves callers
of every event loop and of none. It is answered within a quarter of a second or counts
as unanswered, and the store is not asked for some seconds: the job is written as any
other, and the claim decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Final, Protocol

from shifter.errors import ShifterError
from shifter.ports import ClaimStore, Clock
from shifter.runtime.forking import renew_in_child
from shifter.runtime.threads import BackgroundLoop

_ANSWER_S: Final = 0.25
_PAUSE_S: Final = 5.0
_END_S: Final = 0.3


class DoneKeys(Protocol):
    """Who had the effect of an idempotency key, as far as that is known in time."""

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had it; ``None`` where none is known. Never raises."""

    def done_by_sync(self, identity: str) -> str | None:
        """The same for callers without an event loop; blocks for a bounded time."""

    def close(self) -> None:
        """Stop."""


class StoredKeys:
    """`DoneKeys` of a claim store. Safe to share between threads.

    Its thread starts with the first question; a forked child starts its own.

    Args:
        open_store: Called in the thread.
        clock: Times the pause after a question without an answer.
        prepare: Called before, in the thread that asks first.
    """

    def __init__(
        self,
        open_store: Callable[[], ClaimStore],
        clock: Clock,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._open_store, self._clock, self._prepare = open_store, clock, prepare
        self._thread: BackgroundLoop | None = None
        self._is_closed = False
        self._begin()
        renew_in_child(self._begin)

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had it; ``None`` where none is known. Never raises."""
        if not self._may_ask():
            return None
        try:
            async with asyncio.timeout(_ANSWER_S):
                store, loop = await asyncio.shield(asyncio.wrap_future(self._opened))
                asked = asyncio.run_coroutine_threadsafe(store.done_by(identity), loop)
                return await asyncio.wrap_future(asked)
        except (ShifterError, TimeoutError, RuntimeError):
            self._pause()
            return None

    def done_by_sync(self, identity: str) -> str | None:
        """The same for callers without an event loop; blocks for a bounded time."""
        if not self._may_ask():
            return None
        asked: concurrent.futures.Future[str | None] | None = None
        try:
            store, loop = self._opened.result(_ANSWER_S)
            asked = asyncio.run_coroutine_threadsafe(store.done_by(identity), loop)
            return asked.result(_ANSWER_S)
        except (ShifterError, concurrent.futures.TimeoutError, RuntimeError):
            if asked is not None:
                asked.cancel()
            self._pause()
            return None

    def close(self) -> None:
        """Stop; what is asked afterwards is not known."""
        self._is_closed = True
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(_END_S)

    def _begin(self) -> None:
        self._lock, self._silent_until = threading.Lock(), 0.0
        self._thread = None
        self._opened: concurrent.futures.Future[
            tuple[ClaimStore, asyncio.AbstractEventLoop]
        ] = concurrent.futures.Future()

    def _may_ask(self) -> bool:
        if self._is_closed or self._clock.monotonic() < self._silent_until:
            return False
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    if self._prepare is not None:
                        self._prepare()
                    self._thread = BackgroundLoop(self._run, name="shifter-done-keys")
                    self._thread.start()
        return True

    def _pause(self) -> None:
        self._silent_until = self._clock.monotonic() + _PAUSE_S

    async def _run(self, stopped: asyncio.Event) -> None:
        try:
            store = self._open_store()
        except ShifterError as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result((store, asyncio.get_running_loop()))
        try:
            await stopped.wait()
        finally:
            await store.close()
