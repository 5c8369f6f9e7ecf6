"""What a process holds: threads, descriptors, sockets in folders, tasks of a loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from shifter.runtime.threads import in_thread

# Pools keep their threads for the life of the process: theirs are bounded, not counted.
_POOLS = re.compile(r"^(shifter-io|asyncio)_")
_NUMBERS = re.compile(r"\d+")


class Census(NamedTuple):
    """What is there at one moment; descriptors by what they lead to, without numbers."""

    threads: Counter[str]
    kernel_threads: int
    descriptors: Counter[str]
    bells: int
    tasks: int

    def beyond(self, before: Census) -> dict[str, object]:
        """What is there now and was not before; empty if nothing was left behind."""
        found = {
            "threads": self.threads - before.threads,
            "kernel threads": max(0, self.kernel_threads - before.kernel_threads),
            "descriptors": self.descriptors - before.descriptors,
            "bells": max(0, self.bells - before.bells),
            "tasks": max(0, self.tasks - before.tasks),
        }
        return {name: more for name, more in found.items() if more}


def census() -> Census:
    """Count now; garbage is collected before, and what it left unclosed is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    pooled = sum(bool(_POOLS.match(one.name)) for one in threading.enumerate())
    descriptors: Counter[str] = Counter()
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            descriptors[_NUMBERS.sub("#", str(number.readlink()))] += 1
    return Census(
        Counter(
            _NUMBERS.sub("#", one.name)
            for one in threading.enumerate()
            if not _POOLS.match(one.name)
        ),
        len(list(Path("/proc/self/task").iterdir())) - pooled,
        descriptors,
        len(list(Path(tempfile.gettempdir()).glob("shifter-*"))),
        len(asyncio.all_tasks()),
    )


async def settled(before: Census, *, within_s: float = 30.0) -> Census:
    """The census, once nothing is there that was not; else the last, when time is up.

    Some ends are not waited for by a close that has a time limit of its own.
    """
    until = time.monotonic() + within_s
    while True:
        now = census()
        if not now.beyond(before) or time.monotonic() > until:
            return now
        await asyncio.sleep(0.05)


async def fill_pool() -> None:
    """Have the pool of `in_thread` make its threads now, and not in the middle."""
    together = threading.Barrier(16)
    await asyncio.gather(*(in_thread(together.wait, 60) for _ in range(16)))
