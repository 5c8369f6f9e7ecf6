"""The first process of a container: forwards signals and reaps orphans.

The kernel drops a signal to process 1 that has no handler for it, and hands every
orphan to process 1. So the command runs in a child, where signals act as usual.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

_PASSED_ON: Final = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)


def become_init() -> int | None:
    """Fork if this is process 1.

    Returns:
        ``None`` in the process that is to run the command; in process 1 the exit code
        of that command, once it has ended.
    """
    if os.getpid() != 1:
        return None
    waited = _PASSED_ON | {signal.SIGCHLD}
    # Blocked signals stay pending, also those to process 1 without a handler.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        code = _reap(child)
        if code is not None:
            return code


def _reap(child: int) -> int | None:
    """Reap every child that has ended; return the exit code if ``child`` is one."""
    found: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                found = code if code >= 0 else 128 - code
    return found
