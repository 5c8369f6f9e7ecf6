"""What a failed opening of a file leaves behind, and a use that ends after the close.

Wrong was: a connection whose settings failed, and the descriptor of the lock beside a
file that could not be made, stayed open for the life of the process, one more each time;
a sync of the fleet's file whose caller was cancelled opened a connection after the close;
a write that began beside the close of its database was never answered. Python 3.13
reports the first and the third as `ResourceWarning`. Right is: what fails to open leaves
nothing open, what is closed stays closed, and every write is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from shifter.adapters.sqlite import fleet as fleet_module
from shifter.adapters.sqlite.connection import connect
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqliteFleetStore
from shifter.adapters.sqlite.salvage import _opened
from shifter.adapters.system import SystemClock
from shifter.errors import ConfigError, StoreError, StoreUnavailableError
from shifter.model.fleet import FleetReport


def open_files(folder: Path) -> list[str]:
    """Files of a folder that this process has open."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(number.readlink()))
    return [name for name in found if name.startswith(str(folder))]


def report() -> FleetReport:
    return FleetReport("p", 0.5, b"", is_alarmed=False, keep_ms=1_000, version=0)


class CloseMeanwhile:
    """A queue of a database that is closed by another thread while a write is put."""

    def __init__(self, database: Database) -> None:
        self._put = database._queue.put
        self.closer = threading.Thread(target=database.close_sync)

    def put(self, task: object) -> None:
        if task is not None:
            self.closer.start()
            # Where the write keeps the close waiting, this is over in vain.
            self.closer.join(0.2)
        self._put(task)


@pytest.fixture
def no_database(tmp_path):
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database, " * 1_000)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("opener", [connect, _opened], ids=["connect", "salvage"])
def test_connection_is_closed_when_its_settings_fail(no_database, opener):
    with pytest.raises((StoreError, sqlite3.Error)) as caught:
        opener(no_database).execute("SELECT 1")

    assert open_files(no_database.parent) == []
    assert caught.value is not None


def test_fleet_connection_is_closed_when_its_settings_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet_module, "_DDL", "no statement of SQL")
    store = SqliteFleetStore(tmp_path / "fleet", "shop", SystemClock())

    with pytest.raises(StoreUnavailableError) as caught:
        store._sync(report())

    assert open_files(tmp_path) == []
    assert caught.value is not None


def test_lock_is_closed_when_the_file_cannot_be_opened(no_database):
    for _ in range(3):
        with pytest.raises((ConfigError, StoreError)):
            Database(no_database)

    assert open_files(no_database.parent) == []


async def test_sync_that_outlives_its_caller_leaves_no_connection(
    tmp_path, monkeypatch
):
    opening, may_open = threading.Event(), threading.Event()

    def slow(*args):
        opening.set()
        assert may_open.wait(30)

    monkeypatch.setattr(fleet_module, "check_file", slow)
    store = SqliteFleetStore(tmp_path / "fleet", "shop", SystemClock())
    sync = asyncio.ensure_future(store.sync(report()))
    assert await asyncio.to_thread(opening.wait, 30)
    sync.cancel()
    close = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)

    may_open.set()
    await close

    assert open_files(tmp_path) == []
    with pytest.raises(StoreUnavailableError, match="it is closed"):
        await store.sync(report())
    assert open_files(tmp_path) == []
    await store.close()


def test_write_beside_a_close_is_answered(tmp_path):
    database = Database(tmp_path / "log.db")
    database.write_sync(lambda connection: None)
    queue = database._queue = CloseMeanwhile(database)
    answers = []

    database.write_sync(answers.append, timeout_s=30)
    queue.closer.join(30)

    assert len(answers) == 1
    assert open_files(tmp_path) == []
