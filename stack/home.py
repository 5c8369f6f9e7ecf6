"""The git-ignored folder ``.stack/``: what is in it, and who may sweep it out.

Installed things (jars, archive, template) stay. A ``run-*`` folder holds the data of
one server and goes when it stops; its ``owner`` file names the process that needs it,
so that a later start can remove what a killed one left.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stack.process import mark_of

HOME: Final = Path(__file__).resolve().parent.parent / ".stack"
"""Where everything of the stack lives."""
_OWNER: Final = "owner"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock against other processes; waits for it. Not reentrant."""
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_run_dir(kind: str) -> Path:
    """A new private folder for a server of this process; sweeps out orphans first."""
    HOME.mkdir(exist_ok=True)
    _sweep()
    place = HOME / f"run-{kind}-{secrets.token_hex(4)}"
    place.mkdir(mode=0o700)
    (place / _OWNER).write_text(f"{os.getpid()} {mark_of(os.getpid())}")
    return place


def _sweep() -> None:
    for place in HOME.glob("run-*"):
        try:
            pid, _, mark = (place / _OWNER).read_text().partition(" ")
        except FileNotFoundError:
            continue  # being made, or being removed, by another process
        # an empty file is one that is being written
        if pid and mark_of(int(pid)) != mark:
            shutil.rmtree(place, ignore_errors=True)
