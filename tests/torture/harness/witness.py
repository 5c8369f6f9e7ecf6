"""``python -m tests.torture.harness.witness FOLDER SOCKET``: holds the effects.

The one process that no fault hits: its memory is the resource that jobs change. It
counts an effect once per identity, as a resource with idempotency keys does, and
refuses a fence older than the newest it has seen for the identity or its key, as a
resource with fencing tokens does. Everything it is told and answers is in its history.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import msgspec

from tests.torture.harness.event import History

SOCKET = "witness.sock"


class Told(msgspec.Struct, array_like=True):
    """What a handler tells; ``f`` is ``start`` or ``effect``."""

    f: str
    job: str
    kind: str
    identity: str
    key: str
    kseq: int
    attempt: int
    fence: int
    digest: str
    pid: int


class Witness:
    """Answers ``ok``, ``again`` or ``stale``."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._newest: dict[str, int] = {}
        self._done: set[str] = set()

    def hear(self, told: Told) -> str:
        """Judge one line and write it down."""
        answer = self._judge(told)
        self._history.note(
            told.f,
            "ok" if answer == "ok" else "fail",
            job=told.job,
            kind=told.kind,
            identity=told.identity,
            key=told.key,
            kseq=told.kseq,
            attempt=told.attempt,
            fence=told.fence,
            digest=told.digest,
            reason=answer,
            pids=[told.pid],
        )
        return answer

    def _judge(self, told: Told) -> str:
        names = [told.identity, *([f"key {told.key}"] if told.key else [])]
        # Nobody could say who may run it: fence 0 promises nothing.
        if told.fence and any(told.fence < self._newest.get(n, 0) for n in names):
            return "stale"
        for name in names:
            self._newest[name] = max(told.fence, self._newest.get(name, 0))
        if told.f == "start":
            return "ok"
        if told.identity in self._done:
            return "again"
        self._done.add(told.identity)
        return "ok"


async def serve(folder: Path, socket: Path) -> None:
    """Answer until killed."""
    witness = Witness(History(folder, "witness"))
    decoder = msgspec.json.Decoder(Told)

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while line := await reader.readline():
            if line.endswith(b"\n"):
                writer.write(witness.hear(decoder.decode(line)).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, socket)
    await server.serve_forever()


class Line:
    """A handler's connection to the witness; one question at a time."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()

    async def tell(self, told: Told) -> str:
        """Tell, and hear the answer."""
        async with self._lock:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(self._socket)
            reader, writer = self._streams
            writer.write(msgspec.json.encode(told) + b"\n")
            try:
                return (await reader.readline()).decode().strip()
            except asyncio.CancelledError:
                # The answer that still comes must not be taken for the next one's.
                self._streams = None
                writer.close()
                raise


def tell_at_once(path: Path, told: Told) -> str:
    """Tell from a thread, on a connection of its own, and hear the answer."""
    with socket.socket(socket.AF_UNIX) as line, line.makefile("rwb") as stream:
        line.connect(str(path))
        stream.write(msgspec.json.encode(told) + b"\n")
        stream.flush()
        return stream.readline().decode().strip()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
