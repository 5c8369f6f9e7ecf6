"""Process groups and sessions: what ends together.

A worker process leads a session of its own, so that a signal to its supervisor's group
(Ctrl-C in a shell, a service manager) reaches the supervisor alone. Each process that
runs isolated jobs leads a group in the worker's session: its group is killed as a whole
when a job's time is over, the session when the worker is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

_TRIES: Final = 20
_PROC: Final = Path("/proc")


def lead_session() -> None:
    """Leave the supervisor's session, process group and terminal."""
    # One that leads a group already has nothing to leave.
    with contextlib.suppress(PermissionError):
        os.setsid()


def lead_group() -> None:
    """Begin a process group, and end it when the parent process is gone."""
    os.setpgid(0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(
            target=_end_after,
            args=(parent.sentinel,),
            name="shifter-orphan",
            daemon=True,
        ).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.killpg(0, signal.SIGKILL)


def kill_group(process: BaseProcess) -> None:
    """Kill a process that leads a group, with all of the group."""
    if process.pid is not None:
        # It does not lead one before it has started up.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def kill_session(leader: int) -> None:
    """Kill what is left of a session whose leader has ended.

    Args:
        leader: Its process id; not reaped yet, so that it names no other process.
            Where there is no ``/proc`` only its own process group is killed.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    for _ in range(_TRIES):
        members = _members(leader)
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _members(leader: int) -> list[int]:
    """Live processes of a session, without its leader."""
    found = []
    for entry in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, session, *_ = entry.read_text().rpartition(")")[2].split()
            pid = int(entry.parent.name)
            if int(session) == leader and state not in "ZX" and pid != leader:
                found.append(pid)
    return found


@contextlib.contextmanager
def holding_signals() -> Generator[None]:
    """Start a process that must not end by a signal before it can handle one.

    What is started in the block inherits blocked signals; it calls `ignore_signals`.
    """
    # Its start unblocks signals.
    resource_tracker.ensure_running()
    numbers = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(*numbers: signal.Signals) -> None:
    """Let signals pass without effect; programs that are started do not inherit it."""
    for number in numbers:
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _nothing(*_: object) -> None:
    """A handler, and not ``SIG_IGN``, which programs would inherit."""
