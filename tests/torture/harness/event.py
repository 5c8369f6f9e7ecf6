"""One line of the history: what happened, in which process, when.

All processes are of one machine, so that their monotonic clocks are one clock. A line
is one write to a file opened for appending: a process killed in the middle of its life
leaves whole lines behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


class Event(msgspec.Struct, omit_defaults=True):
    """What happened.

    Attributes:
        t: Monotonic seconds.
        wall_ms: Wall clock, epoch milliseconds.
        proc: Who says so, such as ``worker-3``.
        pid: Its process.
        seq: Counts the lines of this process, from 1.
        f: ``accept, cancel, put, begin, call, start, effect, finish, fault, heal, phase,
            sample, metrics, commit, letter, record, status, depth``.
        outcome: ``invoke``, then ``ok``, ``fail`` or ``info`` (nobody knows).
        job: The job's id.
        kind: The job's type, a fault's name, or a phase.
        key: Ordering key.
        kseq: Number within the key, from 1.
        due_ms: Not before, epoch milliseconds.
        deadline_ms: Not started after, epoch milliseconds.
        attempt: 1-based.
        fence: Of the claim it ran under; 0 without one.
        digest: Of the payload.
        identity: What the witness counts effects by.
        reason: Why, or how it ended.
        topic: Of a record.
        part: Its partition.
        offset: Its offset, or a committed one.
        pids: Whom a fault hits; empty for everybody.
        facts: Further numbers of a sample.
    """

    t: float
    wall_ms: int
    proc: str
    pid: int
    seq: int
    f: str
    outcome: str = "info"
    job: str = ""
    kind: str = ""
    key: str = ""
    kseq: int = 0
    due_ms: int = 0
    deadline_ms: int = 0
    attempt: int = 0
    fence: int = 0
    digest: str = ""
    identity: str = ""
    reason: str = ""
    topic: str = ""
    part: int = 0
    offset: int = 0
    pids: list[int] = []
    facts: dict[str, float] = {}


class History:
    """Appends events to the file of one process.

    Args:
        folder: Of all histories of a run.
        proc: Names the process; also its file.
    """

    def __init__(self, folder: Path, proc: str) -> None:
        self._proc, self._pid, self._seq = proc, os.getpid(), 0
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        self._file = os.open(folder / f"{proc}.jsonl", flags, 0o600)
        self._encoder = msgspec.json.Encoder()

    def note(self, f: str, outcome: str = "info", **facts: Any) -> None:
        """Write one event of now."""
        self._seq += 1
        event = Event(
            time.monotonic(),
            time.time_ns() // 1_000_000,
            self._proc,
            self._pid,
            self._seq,
            f,
            outcome,
            **facts,
        )
        os.write(self._file, self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Make it durable."""
        os.fsync(self._file)
        os.close(self._file)


def read_histories(folder: Path) -> list[Event]:
    """All events of a run by time; a torn last line is left out."""
    decoder = msgspec.json.Decoder(Event)
    found: list[Event] = []
    for file in sorted(folder.glob("*.jsonl")):
        lines = file.read_bytes().split(b"\n")[:-1]
        found += map(decoder.decode, lines)
    return sorted(found, key=lambda event: event.t)


def write_history(path: Path, events: Iterable[Event]) -> None:
    """Write events to one file, to be looked at or judged again."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        file.writelines(encoder.encode(event) + b"\n" for event in events)
