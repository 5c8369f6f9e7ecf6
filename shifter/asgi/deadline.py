"""Serves a request until its deadline, and answers 504 then.

At its deadline the request is cancelled and its caller is answered 504 at once. If the
response has begun, it is left without an end, so that the server closes the connection
and no client takes a part for the whole. A request that goes on although it was
cancelled keeps its slot until it ends, and cannot send anything.

A thread cannot be cancelled. A cancelled task would leave its thread running,
uncounted, and the next request would start another one. So a request that waits for a
thread is cancelled once the thread has ended.
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
"""Functions that wait for a thread, of asyncio and of anyio, which Starlette uses."""


class _TooLateError(OSError):
    """Raised by ``send`` once the caller has its answer; ASGI asks for ``OSError``."""


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
        """Serve the request, and return when everything that it began has ended.

        Args:
            service: Called with the ``send`` that it must use.
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
    """Whether a suspended task waits for a thread."""
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None)
        if frame is not None:
            name = frame.f_globals.get("__name__"), frame.f_code.co_name
            if name in _IN_THREADS:
                return True
        inner = getattr(inner, "cr_await", getattr(inner, "ag_await", None))
    return False
