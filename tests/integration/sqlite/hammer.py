"""A process that works on a file until it is killed: ``write``, ``drain`` or ``hold``.

It notes each record in a file of its own as soon as it was told something of it:
``a`` accepted, ``h`` handed out, ``s`` settled.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from shifter.adapters.sqlite import member
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.system import SystemClock
from shifter.ports import Appended, Record

LANE = "shop.mail.low"
BATCH = 20
HELD_MS = 120_000
"""How long who holds would count as alive, if nobody saw that it was killed."""


def open_log(path):
    database = Database(Path(path))
    return SqliteLaneLog(database, SystemClock(), new_topic=(1, 1, 1_000_000))


async def write(path, note):
    log, number = open_log(path), 0
    while True:
        names = [f"{os.getpid()}.{number + i}" for i in range(BATCH)]
        number += BATCH
        batch = [
            Record(LANE, name.encode(), [], b"k%d" % (i % 3) if i % 2 else None)
            for i, name in enumerate(names)
        ]
        assert await log.append(batch, timeout_s=20) == [Appended()] * BATCH
        note("a", names)


async def drain(path, note):
    feed = SqliteLaneFeed(open_log(path), [LANE], SystemClock())
    await feed.open()
    while True:
        found = await feed.fetch(50, wait_s=1)
        names = [delivery.value.decode() for delivery in found]
        note("h", names)
        await feed.settle(found)
        # What was settled is written with the next fetch.
        await feed.fetch(0, wait_s=0)
        note("s", names)


async def hold(path, note):
    member.ALIVE_MS = HELD_MS
    feed = SqliteLaneFeed(open_log(path), [LANE], SystemClock())
    await feed.open()
    found = await feed.fetch(50, wait_s=20)
    note("h", [delivery.value.decode() for delivery in found])
    await asyncio.Event().wait()


def main(verb, path, notes):
    fd = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(kind, names):
        os.write(fd, "".join(f"{kind} {name}\n" for name in names).encode())

    asyncio.run({"write": write, "drain": drain, "hold": hold}[verb](path, note))


if __name__ == "__main__":
    main(*sys.argv[1:])
