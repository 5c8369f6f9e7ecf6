"""A machine that loses its power: what its programs did not sync is gone.

A kill -9 alone loses nothing that was written, since the kernel still has it. Here a
preloaded library notes what each write to a database replaced, until the file is
synced; once the process is dead the old bytes are put back. What a file system may keep
of unsynced writes, and in which order, is its own affair: this one keeps nothing.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from tests.torture.faults.preload import library

_HEAD: Final = struct.Struct("=qqq")
_NOTES: Final = ".unsynced"


class Power:
    """Of processes that are started with `environment`.

    Args:
        folder: Where the watched files are; also for the library.
        watched: How the paths of databases end.

    Raises:
        Cannot: There is no C compiler here.
    """

    def __init__(self, folder: Path, watched: str) -> None:
        self._folder = folder
        self.environment = {
            "LD_PRELOAD": str(library("unsynced", folder)),
            "UNSYNCED": watched,
        }
        self.lost = 0

    def lose(self) -> None:
        """Take back what was written since the last sync; its writers are dead."""
        for notes in self._folder.rglob(f"*{_NOTES}"):
            self.lost += _take_back(notes.with_suffix(""), notes.read_bytes())
            notes.unlink()


def _take_back(path: Path, notes: bytes) -> int:
    """Undo writes, newest first; returns how many."""
    found, place = [], 0
    while place + _HEAD.size <= len(notes):
        at, size, length = _HEAD.unpack_from(notes, place)
        place += _HEAD.size
        old = notes[place : place + length]
        place += length
        # A note that was cut short: its write had not begun.
        if len(old) == length:
            found.append((at, size, old))
    with path.open("r+b") as file:
        for at, size, old in reversed(found):
            file.seek(at)
            file.write(old)
            file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return len(found)
