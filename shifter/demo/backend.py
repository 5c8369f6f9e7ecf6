"""The service that the jobs call, and its protocol: fixed slots, and a switch.

    python -m shifter.demo.backend SOCKET SLOTS SPEED

One command a connection, one line of JSON each way. The backend answers ``busy`` when
all slots are taken, and breaks off the connection while it is switched off. It records
which job's work it carried out. As a receiver of jobs that may come twice should, it
remembers their ids and answers a repeat without doing the work again. It ends when its
standard input does, so that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final, Literal, TypeVar

import msgspec

from shifter.adapters.system import SystemClock
from shifter.model.lane import Priority
from shifter.ports import Clock

_T = TypeVar("_T")

_MAX_LINE_BYTES: Final = 1_048_576
# Executions in one state: more of them would not fit into a line.
_MAX_EXECUTIONS: Final = 1_000
# While the backend is switched off: how long a request hangs before its end.
_HANG_S: Final = 0.3


class Request(msgspec.Struct, frozen=True):
    """The work of one job.

    Attributes:
        job_id: The job's id; the same one again is a repeat.
        priority: Of the job; only counted.
        arrived_at: Monotonic seconds of this machine when it was offered.
        context_tokens: Tokens to read; a number below zero is refused.
        generated_tokens: Tokens to write; a number below zero is refused.
    """

    job_id: str
    priority: Priority
    arrived_at: float
    context_tokens: int
    generated_tokens: int


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line to the backend.

    Attributes:
        do: ``serve`` a request, answer with the state (``look``), switch off
            (``break``) or switch on (``heal``).
        since: With ``look``: number of executions that the caller has already.
        request: With ``serve``: the work.
    """

    do: Literal["serve", "look", "break", "heal"]
    since: int = 0
    request: Request | None = None


class Answer(msgspec.Struct, frozen=True):
    """The backend's answer to everything but ``look``.

    Attributes:
        status: ``ok``, ``busy`` (all slots are taken) or ``bad`` (it cannot be done).
        detail: The reason, in words.
    """

    status: Literal["ok", "busy", "bad"]
    detail: str = ""


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """The work of one job, carried out.

    Attributes:
        job_id: Of the job.
        priority: Of the job.
        wait_s: From its arrival to the start of the work.
        ended_at: Monotonic seconds of this machine.
    """

    job_id: str
    priority: Priority
    wait_s: float
    ended_at: float


class BackendState(msgspec.Struct, frozen=True):
    """The backend's state.

    Attributes:
        is_down: Whether it is switched off.
        slots: Requests at once.
        running: Priority to how many of its requests run.
        repeats: Requests for work that had been done, answered without doing it again.
        doubled: Jobs whose work was carried out twice.
        refused: Requests answered ``busy``.
        cut: Requests that were broken off without an answer.
        executions: Those after the command's ``since``, at most 1,000.
    """

    is_down: bool
    slots: int
    running: dict[str, int]
    repeats: int
    doubled: int
    refused: int
    cut: int
    executions: list[Execution]


async def ask(socket: str, command: Command, answer: type[_T]) -> _T | None:
    """Send one command.

    Args:
        socket: Where the backend listens.
        command: The command.
        answer: `BackendState` for ``look``, `Answer` for all else.

    Returns:
        The answer; ``None`` when the backend is away or breaks off without one.
    """
    with contextlib.suppress(ConnectionError, FileNotFoundError):
        reader, writer = await asyncio.open_unix_connection(
            socket, limit=_MAX_LINE_BYTES
        )
        try:
            writer.write(msgspec.json.encode(command) + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
        return msgspec.json.decode(line, type=answer) if line else None
    return None


def service_s(context_tokens: int, generated_tokens: int) -> float:
    """Seconds that a request keeps a slot: a start, then reading, then writing.

    >>> round(service_s(1_000, 100), 3)
    1.25
    """
    return 0.05 + 0.001 * context_tokens + 0.002 * generated_tokens


class Backend:
    """Slots, a switch, and a record of the work that was carried out.

    Args:
        slots: Requests at once, >= 1.
        speed: Trace seconds a second, > 0.
        clock: Times the work.
    """

    def __init__(self, *, slots: int, speed: float, clock: Clock) -> None:
        self._slots, self._speed, self._clock = slots, speed, clock
        self._is_down = False
        self._running: dict[asyncio.Task[None], Priority] = {}
        self._executions: list[Execution] = []
        self._known: set[str] = set()
        self._repeats = self._doubled = self._refused = self._cut = 0

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, ValueError, msgspec.DecodeError):
            line = await reader.readline()
            if line:
                command = msgspec.json.decode(line, type=Command)
                answer = await self._obey(command, reader)
                if answer is not None:
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _obey(
        self, command: Command, reader: asyncio.StreamReader
    ) -> Answer | BackendState | None:
        match command.do:
            case "look":
                return self._state(command.since)
            case "break":
                self._is_down = True
                # Requests that run are cut off in the middle, as when a machine dies.
                for task in self._running:
                    task.cancel()
                return Answer("ok")
            case "heal":
                self._is_down = False
                return Answer("ok")
            case "serve" if command.request is not None:
                return await self._serve(command.request, reader)
            case _:
                return Answer("bad", "neither look, break, heal nor serve")

    async def _serve(
        self, request: Request, reader: asyncio.StreamReader
    ) -> Answer | None:
        if self._is_down:
            self._cut += 1
            await self._clock.sleep(_HANG_S)
            return None
        if min(request.context_tokens, request.generated_tokens) < 0:
            return Answer("bad", "a number of tokens is below zero")
        if request.job_id in self._known:
            self._repeats += 1
            return Answer("ok", "carried out before")
        if len(self._running) >= self._slots:
            self._refused += 1
            return Answer("busy")
        return await self._carry_out(request, reader)

    async def _carry_out(
        self, request: Request, reader: asyncio.StreamReader
    ) -> Answer | None:
        began_at = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(self._work(request))
            # A caller that is killed closes its connection: its slot is freed then.
            gone = group.create_task(_until_closed(reader))
            self._running[work] = request.priority
            try:
                await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                del self._running[work]
                gone.cancel()
            if not work.done():
                work.cancel()
        if work.cancelled():
            self._cut += 1
            return None
        self._note(request, began_at)
        return Answer("ok")

    async def _work(self, request: Request) -> None:
        busy_s = service_s(request.context_tokens, request.generated_tokens)
        await self._clock.sleep(busy_s / self._speed)

    def _note(self, request: Request, began_at: float) -> None:
        if request.job_id in self._known:
            self._doubled += 1
            return
        self._known.add(request.job_id)
        wait_s = max(0.0, began_at - request.arrived_at)
        self._executions.append(
            Execution(request.job_id, request.priority, wait_s, self._clock.monotonic())
        )

    def _state(self, since: int) -> BackendState:
        running = Counter(priority.value for priority in self._running.values())
        return BackendState(
            is_down=self._is_down,
            slots=self._slots,
            running=dict(running),
            repeats=self._repeats,
            doubled=self._doubled,
            refused=self._refused,
            cut=self._cut,
            executions=self._executions[since : since + _MAX_EXECUTIONS],
        )


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


@contextlib.asynccontextmanager
async def listening(backend: Backend, socket: str) -> AsyncGenerator[None]:
    """Serve at a UNIX socket while the block runs."""
    server = await asyncio.start_unix_server(
        backend.answer, socket, limit=_MAX_LINE_BYTES, backlog=1_024
    )
    async with server:
        yield


async def _main(socket: str, slots: int, speed: float) -> None:
    backend = Backend(slots=slots, speed=speed, clock=SystemClock())
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with listening(backend, socket):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await ended.wait()
        # Connections of callers that still wait would keep the server open.
        os._exit(0)


if __name__ == "__main__":
    # A terminal's Ctrl-C reaches this process too, but the demo ends it in time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
