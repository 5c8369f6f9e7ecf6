"""The first worker process of a command, which starts while the command still looks.

A worker process takes most of its start for imports: Python's, this package's, those of
the client libraries and of the app. None of them depends on what the command has to
check before: its options, the topics, the servers. So the first process imports
everything at once, and waits for what it shall run. It opens nothing before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Final, Self

from shifter.runtime.heartbeat_socket import heartbeat_sockets
from shifter.runtime.process_group import lead_session

_NAME: Final = "shifter-worker-0"


class FirstChild:
    """A process that is begun; the end of the block ends one that was not taken.

    Args:
        app: MODULE:APP that it imports.
    """

    def __init__(self, app: str) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self._gate = context.Pipe(duplex=False)
        self._channel, beats = heartbeat_sockets()
        self._process: SpawnProcess | None = context.Process(
            target=_first_process, args=(app, theirs, beats), name=_NAME
        )
        self._process.start()
        theirs.close()
        beats.close()

    def __enter__(self) -> Self:
        """Return the process itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process if `take` was not called."""
        self._gate.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._channel.close()

    def take(
        self, target: Callable[[socket.socket], None]
    ) -> tuple[SpawnProcess, socket.socket] | None:
        """Let it run a target from now on; ``None`` where it was taken before.

        Args:
            target: As of `shifter.supervise.supervisor.Supervisor`.

        Returns:
            The process, and the supervisor's end of its channel.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        # Whether it has ended meanwhile, the supervisor sees when it waits for it.
        with contextlib.suppress(OSError):
            self._gate.send(target)
        return process, self._channel


def _first_process(app: str, gate: Connection, channel: socket.socket) -> None:
    lead_session()
    is_given = threading.Event()
    threading.Thread(target=_end_with_parent, args=(is_given,), daemon=True).start()
    # What fails here fails again in what is run, and is reported there.
    with contextlib.suppress(Exception, SystemExit):
        _import(app)
    try:
        target: Callable[[socket.socket], None] = gate.recv()
    except EOFError:
        return
    is_given.set()
    gate.close()
    target(channel)


def _import(app: str) -> None:
    """Import what a worker of the app uses."""
    import shifter.supervise.entrypoint  # noqa: F401, PLC0415  # in the new process
    from shifter.api.load import load_app  # noqa: PLC0415
    from shifter.wiring.worker import import_worker  # noqa: PLC0415

    import_worker(load_app(app).settings)


def _end_with_parent(is_given: threading.Event) -> None:
    """End this process if its parent ends while the app is imported."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        if not is_given.is_set():
            os._exit(1)
