"""Serves a request for as long as its caller waits, and answers in its place then.

At its deadline the request is cancelled. Its caller is answered 504 at once; if a
response has begun, it stays without an end, so that the server closes the connection
and no client takes a part for the whole. Whatever does not end when it is cancelled
keeps its slot until it does, and can send nothing any more.

A thread cannot be cancelled. A cancelled task would leave it behind, uncounted, and the
next request would start another one: where a request waits for a thread, it is
cancelled when the thread has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from shifter.asgi.response import Send, refusal
from shifter.model.reason import Reason

_LOOK_EVERY_S: Final = 0.02
_IN_THREADS: Final = frozenset(
    {
        ("asyncio.threads", "to_thread"),
        ("anyio._backends._asyncio", "run_sync_in_worker_thread"),
    }
)
"""What waits for a thread: of asyncio, and of anyio, which Starlette uses."""


class _TooLateError(OSError):
    """The caller has left; ASGI's word for it is an ``OSError`` of ``send``."""


class TimedCall:
    """One request with a deadline.

    Args:
        send: The server's.

    Attributes:
        is_late: Whether its deadline came first.
        has_begun: Whether its response has.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_late = self.has_begun = False
        self._settled = asyncio.Event()  # answered, or ended without an answer
        self._error: Exception | None = None

    async def serve(
        self, service: Callable[[Send], Awaitable[None]], left_s: float
    ) -> None:
        """Serve it, and return when what it began has ended.

        Args:
            service: The service, called with what it sends by.
            left_s: Seconds left to its caller, >= 0.
        """
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(service))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._settled.wait()
            if not self._settled.is_set():
                self.is_late = True
                if not self.has_begun:
                    late = refusal(Reason.EXPIRED, None, is_known=False)
                    with contextlib.suppress(OSError):  # the caller has left
                        await late.send(self._send)
                while _waits_for_thread(task):
                    await asyncio.wait((task,), timeout=_LOOK_EVERY_S)
                task.cancel()
        if self._error is not None:
            raise self._error

    async def _run(self, service: Callable[[Send], Awaitable[None]]) -> None:
        try:
            await service(self._pass)
        except _TooLateError:
            pass
        except Exception as error:  # noqa: BLE001  # raised as it is, and in no group
            self._error = error
        finally:
            self._settled.set()

    async def _pass(self, event: Mapping[str, Any]) -> None:
        if self.is_late:
            raise _TooLateError
        self.has_begun = True
        await self._send(event)
        if event["type"] == "http.response.body" and not event.get("more_body", False):
            self._settled.set()


def _waits_for_thread(task: asyncio.Task[None]) -> bool:
    """Whether a task that is suspended has a thread do something."""
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None)
        if frame is not None:
            name = frame.f_globals.get("__name__"), frame.f_code.co_name
            if name in _IN_THREADS:
                return True
        inner = getattr(inner, "cr_await", getattr(inner, "ag_await", None))
    return False
