"""Protocol between the demo's processes and its backend: a line of JSON each way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Literal

import msgspec

from shifter.model.lane import Priority

MAX_LINE_BYTES: Final = 1_048_576


class Request(msgspec.Struct, frozen=True):
    """One request to carry out.

    Attributes:
        job_id: The job's id; the same one again is a repeat.
        priority: Of the job; only counted.
        arrived_at: Monotonic seconds of this machine when it was offered.
        context_tokens: Tokens to read; below zero makes no sense and is refused.
        generated_tokens: Tokens to write.
    """

    job_id: str
    priority: Priority
    arrived_at: float
    context_tokens: int
    generated_tokens: int


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line to the backend.

    Attributes:
        do: What it is told to do.
        since: With ``look``: how many entries of the ledger are known already.
        request: With ``serve``.
    """

    do: Literal["serve", "look", "break", "heal"]
    since: int = 0
    request: Request | None = None


class Answer(msgspec.Struct, frozen=True):
    """The backend's answer to everything but ``look``.

    Attributes:
        said: ``ok``, ``busy`` (all slots are taken) or ``bad`` (makes no sense).
        detail: In words.
    """

    said: Literal["ok", "busy", "bad"]
    detail: str = ""


class Served(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the ledger.

    Attributes:
        job_id: What was carried out.
        priority: Of the job.
        wait_s: From its arrival to the start of the work.
        ended_at: Monotonic seconds of this machine.
    """

    job_id: str
    priority: Priority
    wait_s: float
    ended_at: float


class Look(msgspec.Struct, frozen=True):
    """The backend's state.

    Attributes:
        is_down: Whether it is broken.
        slots: Requests at once.
        running: Priority to how many of its requests run.
        repeats: Requests for work that had been done, answered without doing it again.
        doubled: Jobs whose work was carried out twice.
        refused: Requests answered ``busy``.
        cut: Requests that were broken off without an answer.
        served: The ledger from where the question said, at most 1,000 entries.
    """

    is_down: bool
    slots: int
    running: dict[str, int]
    repeats: int
    doubled: int
    refused: int
    cut: int
    served: list[Served]


async def ask(socket: str, told: Told) -> bytes:
    """The backend's line; empty when it breaks off without an answer."""
    with contextlib.suppress(ConnectionError, FileNotFoundError):
        reader, writer = await asyncio.open_unix_connection(
            socket, limit=MAX_LINE_BYTES
        )
        try:
            writer.write(msgspec.json.encode(told) + b"\n")
            return await reader.readline()
        finally:
            writer.close()
    return b""
