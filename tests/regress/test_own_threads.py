"""Handlers that fill asyncio's default threads stop none of shifter's own work.

The file log and the fleet's file were read in the threads that `asyncio.to_thread` and
every name lookup share, six on two cores. A few handlers that waited for a silent DNS
server stopped the reading of the log, the fleet's sync and the end of the process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from shifter import Shifter
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqliteFleetStore
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.model.fleet import FleetReport
from shifter.runtime.threads import in_thread


@pytest.fixture
async def full_threads():
    """Every default thread of the loop waits, and twice as many calls behind them."""
    go_on = threading.Event()
    waiting = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(80)]
    await asyncio.sleep(0.05)
    yield
    go_on.set()
    await asyncio.gather(*waiting)


async def test_file_is_read_while_the_default_threads_are_full(full_threads, tmp_path):
    database = Database(tmp_path / "own.db")

    async with asyncio.timeout(30):
        found = await database.read(lambda db: db.execute("SELECT 7").fetchone())
        await database.close()

    assert found == (7,)


async def test_fleet_is_synced_while_the_default_threads_are_full(
    full_threads, tmp_path
):
    store = SqliteFleetStore(tmp_path / "own.db.fleet", "shop", SystemClock())
    report = FleetReport("one", 0.5, b"{}", False, 2_000, 0, [], [], [])

    async with asyncio.timeout(30):
        view = await store.sync(report)
        await store.close()

    assert view.load.processes


async def test_app_closes_while_the_default_threads_are_full(full_threads, tmp_path):
    url = Secret.of_url(f"sqlite://{tmp_path}/own.db")
    app = Shifter("shop", settings=Settings(namespace="shop", log_url=url))

    @app.job
    async def close(order: int) -> None: ...

    async with asyncio.timeout(30):
        async with app:
            answer = await close.defer(7)

    assert answer.job_id


async def test_own_threads_pass_on_context_result_and_error():
    names = await asyncio.gather(
        *(in_thread(lambda: threading.current_thread().name) for _ in range(3))
    )

    assert all(name.startswith("shifter-io") for name in names)
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_forked_child_has_threads_of_its_own():
    await in_thread(int)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            found = asyncio.new_event_loop().run_until_complete(
                in_thread(lambda: b"ok")
            )
            os.write(write, found)
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)

    assert os.read(read, 10) == b"ok"
    os.close(read)


def test_interpreter_that_ends_after_their_use_prints_nothing():
    program = (
        "import asyncio\n"
        "from shifter.runtime.threads import in_thread\n"
        "print(asyncio.run(in_thread(lambda: 7)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("7\n", "")
