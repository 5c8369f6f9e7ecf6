"""The app of `test_forks` whose handlers fork."""

from __future__ import annotations

import multiprocessing
import os
import time

from shifter import Shifter
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "forking"))
ledger = app.dependency("ledger")
FORK = multiprocessing.get_context("fork")


@app.job
def plain(number: int) -> int:
    effect("plain", number)
    return number + 1


def use_the_app(number: int) -> None:
    """In a forked child: whatever a handler may do with the app."""
    with ledger:
        assert plain.submit_sync(number).value == number + 1
    assert type(plain.defer_sync(number + 100)).__name__ == "Deferred"


def _fork(number: int) -> None:
    child = FORK.Process(target=use_the_app, args=(number,))
    child.start()
    child.join(60)
    effect("forked", number, child.exitcode)
    child.kill()


@app.job
def threaded(number: int) -> None:
    with ledger:
        plain.submit_sync(number + 10)
    _fork(number)


@app.job
async def looped(number: int) -> None:
    async with ledger:
        await plain.submit(number + 10)
    _fork(number)


@app.job(attempts=1)
def terminating(number: int) -> None:
    """End forked children by SIGTERM, as a pool does."""
    effect("begun", number)
    children = [FORK.Process(target=time.sleep, args=(60,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.terminate()
        child.join(60)
    time.sleep(1.0)
    effect("terminated", sum(child.exitcode == -15 for child in children))
