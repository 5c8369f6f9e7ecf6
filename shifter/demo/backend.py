"""The service that the jobs call: a fixed number of slots, and a switch to break it.

    python -m shifter.demo.backend SOCKET SLOTS SPEED

One request a connection, one line of JSON each way (`shifter.demo.wire`). It answers
``busy`` when all slots are taken, and nothing at all while it is broken. It keeps the
ledger of the run: what was carried out for which job. As a receiver of jobs that may
come twice should, it remembers their ids and answers a repeat without doing the work
again. It ends when its standard input does, so that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator

import msgspec

from shifter.adapters.system import SystemClock
from shifter.demo.trace import service_s
from shifter.demo.wire import MAX_LINE_BYTES, Answer, Look, Request, Served, Told
from shifter.model.lane import Priority
from shifter.ports import Clock

# While broken: how long a request hangs before its connection breaks off.
_HANG_S = 0.3


class Backend:
    """Slots, a switch and a ledger.

    Args:
        slots: Requests at once, >= 1.
        speed: Trace seconds a second, > 0.
        clock: Times the work.
    """

    def __init__(self, *, slots: int, speed: float, clock: Clock) -> None:
        self._slots, self._speed, self._clock = slots, speed, clock
        self._is_down = False
        self._running: dict[asyncio.Task[None], Priority] = {}
        self._served: list[Served] = []
        self._known: set[str] = set()
        self._repeats = self._doubled = self._refused = self._cut = 0

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, ValueError, msgspec.DecodeError):
            line = await reader.readline()
            if line:
                answer = await self._obey(msgspec.json.decode(line, type=Told), reader)
                if answer is not None:
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _obey(
        self, told: Told, reader: asyncio.StreamReader
    ) -> Answer | Look | None:
        match told.do:
            case "look":
                return self._look(told.since)
            case "break":
                self._is_down = True
                # What runs is cut off in the middle, as when a machine dies.
                for task in self._running:
                    task.cancel()
                return Answer("ok")
            case "heal":
                self._is_down = False
                return Answer("ok")
            case "serve" if told.request is not None:
                return await self._serve(told.request, reader)
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
        ended_at = self._clock.monotonic()
        wait_s = max(0.0, began_at - request.arrived_at)
        self._served.append(Served(request.job_id, request.priority, wait_s, ended_at))

    def _look(self, since: int) -> Look:
        running = Counter(priority.value for priority in self._running.values())
        return Look(
            is_down=self._is_down,
            slots=self._slots,
            running=dict(running),
            repeats=self._repeats,
            doubled=self._doubled,
            refused=self._refused,
            cut=self._cut,
            served=self._served[since : since + 1_000],
        )


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


@contextlib.asynccontextmanager
async def listening(backend: Backend, socket: str) -> AsyncGenerator[None]:
    """Serve at a UNIX socket while the block runs."""
    server = await asyncio.start_unix_server(
        backend.answer, socket, limit=MAX_LINE_BYTES, backlog=1_024
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
        # Callers that are still there are not waited for.
        os._exit(0)


if __name__ == "__main__":
    # The demo says when to stop; a terminal's Ctrl-C is for the demo.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
