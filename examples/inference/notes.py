"""What the workers did, line by line: one file a process, read while it grows.

A line is written with one ``write`` to a file opened for appending, so that a process
that is killed loses no line it wrote and tears none.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple


class Note(NamedTuple):
    """The end of one attempt.

    Attributes:
        job_id: Whose.
        job: Its job type.
        lane: The priority it was served at.
        pid: The process that ran it.
        arrived_at: When it was due to arrive; seconds of the machine's monotonic clock.
        started_at: When its handler started; the same clock.
        ended_at: When its handler ended; the same clock.
        outcome: ``done``, or ``stopped`` when the attempt was cut short.
    """

    job_id: str
    job: str
    lane: str
    pid: int
    arrived_at: float
    started_at: float
    ended_at: float
    outcome: str


class NoteWriter:
    """Appends notes of this process. Opens its file with the first note."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def write(self, note: Note) -> None:
        """Append one note."""
        if self._file is None:
            path = self._folder / f"worker-{os.getpid()}.jsonl"
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._file, json.dumps(note).encode() + b"\n")


class NoteReader:
    """Reads notes of all processes, each of them once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_bytes: dict[Path, int] = {}

    def read(self) -> list[Note]:
        """Notes written since the last call."""
        notes: list[Note] = []
        for path in sorted(self._folder.glob("worker-*.jsonl")):
            done = self._read_bytes.get(path, 0)
            with path.open("rb") as file:
                file.seek(done)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes[path] = done + len(whole) + len(newline)
            notes += [Note(*json.loads(line)) for line in whole.splitlines()]
        return notes
