"""Ends a worker process at its supervisor's word, whatever its event loop does.

An abort is no loss of a worker: what runs is handed back, and no attempt is charged. A
loop that still turns does so by itself. Where a handler keeps it from turning, a thread
with a loop of its own gives the claims back, as the last thing that the process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

from shifter.errors import ShifterError
from shifter.model.claim import ClaimUpdate
from shifter.ports import ClaimStore
from shifter.work.attempt import Stop
from shifter.work.drain import Drain
from shifter.work.executor import ProcessRunner
from shifter.work.next_step import given_back

_ORDERLY_S: Final = 2.0
_GIVE_BACK_S: Final = 1.5
_LARGEST_BYTES: Final = 64
_ABORTED_EXIT: Final = 130


class Leaving:
    """Waits for the supervisor's word on a thread of its own.

    Args:
        line: The worker's end of the line to its supervisor.
        drain: What runs here.
        processes: Those of isolated jobs, if there are any.
        open_claims: Opens the claim store once more, for the thread's own loop.
    """

    def __init__(
        self,
        line: socket.socket,
        drain: Drain,
        processes: ProcessRunner | None,
        open_claims: Callable[[], ClaimStore],
    ) -> None:
        self._line, self._drain, self._processes = line, drain, processes
        self._open_claims = open_claims
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, name="shifter-abort", daemon=True)
        thread.start()

    def _run(self) -> None:
        try:
            self._line.recv(_LARGEST_BYTES)
        except OSError:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._drain.stop(at_once=True))
        # The process may end by itself meanwhile, and this thread with it.
        threading.Event().wait(_ORDERLY_S)
        if self._processes is not None:
            self._processes.close()
        with contextlib.suppress(ShifterError, TimeoutError):
            asyncio.run(self._give_back())
        os._exit(_ABORTED_EXIT)

    async def _give_back(self) -> None:
        claims = self._open_claims()
        async with asyncio.timeout(_GIVE_BACK_S):
            await claims.finish(held_claims(self._drain))


def held_claims(drain: Drain) -> list[ClaimUpdate]:
    """Updates that give back what still runs, as the last act of its process.

    An attempt that outlived its own time keeps its claim: it is what the process ends
    for, and the loss of a worker counts for its job alone.
    """
    running = (
        given_back(attempt.item)
        for attempt in drain.progress().attempts
        if not attempt.is_stuck or attempt.stopped is Stop.SHUTDOWN
    )
    return [update for update in running if update is not None]
