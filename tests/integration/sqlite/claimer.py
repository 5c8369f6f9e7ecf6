"""A worker process that claims what it is told to, for tests of several on one file.

Reads lines from stdin: ``race N`` claims j0 … jN-1 in batches and ends what it was
granted; ``hold MS`` claims j1 for so long and keeps it; ``stall`` stops in the middle
of a claim's transaction.
"""

from __future__ import annotations

import asyncio
import random
import sys
from functools import partial
from pathlib import Path

from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.system import SystemClock
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.policy.delivery.claim import (
    ClaimAsk,
)
from shifter.policy.delivery.claim_batch import claim_batch

BATCH = 20


def say(*words):
    print(*words, flush=True)


def asked(names):
    return [ClaimRequest(name, name, 1, 1) for name in names]


async def race(store, owner, count):
    names = [f"j{i}" for i in range(count)]
    random.shuffle(names)
    for at in range(0, count, BATCH):
        batch = asked(names[at : at + BATCH])
        answers = await store.claim(batch, owner=owner, lease_ms=60_000)
        granted = [
            (request.identity, answer.fence)
            for request, answer in zip(batch, answers, strict=True)
            if isinstance(answer, Granted)
        ]
        written = await store.finish(
            [ClaimUpdate(*held, JobState.DONE, 1, 1, 60_000) for held in granted]
        )
        assert all(written)
        for name, fence in granted:
            say(name, fence)


def stall(store, owner, connection):
    rows = store._rows(connection)
    claim_batch(rows, asked(["j1"]), ClaimAsk(1, 1, owner, 60_000))
    rows.save()
    say("claimed")
    sys.stdin.read()


async def main(path, owner):
    database = Database(Path(path))
    store = SqliteClaimStore(database, "shop", SystemClock())
    say("ready")
    for line in sys.stdin:
        match line.split():
            case ["race", count]:
                await race(store, owner, int(count))
                say("end")
            case ["hold", lease_ms]:
                (answer,) = await store.claim(
                    asked(["j1"]), owner=owner, lease_ms=int(lease_ms)
                )
                say(answer.fence)
            case ["stall"]:
                await database.write(partial(stall, store, owner))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
