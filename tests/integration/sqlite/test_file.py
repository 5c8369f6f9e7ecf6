"""What may lie at the path: each has its own clear error, and nothing of it is lost."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shifter.adapters.sqlite.connection import VERSION
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.file import check_file
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.system import SystemClock
from shifter.errors import ConfigError, StoreRefusedError
from shifter.model.reason import Reason
from shifter.ports import Appended, Record, Refused
from tests.integration.sqlite.test_lanes import LANE, Process

ROOT = Path(__file__).parents[3]
OPENS = """
import sys
from pathlib import Path
from shifter.adapters.sqlite.database import Database
sys.stdin.readline()
database = Database(Path(sys.argv[1]))
database.write_sync(lambda connection: None)
database.close_sync()
"""


def mount(*words):
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("nothing may be mounted here")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 48 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount("-t", "tmpfs", "-o", "size=48m", "tmpfs", point)
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_a_file_whose_making_was_cut_short_is_made(tmp_path):
    """Killed between the header and the tables: it has a page, and no owner yet."""
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
    assert path.stat().st_size

    database = Database(path)

    assert database.read_sync(
        lambda c: c.execute("SELECT count(*) FROM job").fetchone()
    ) == (0,)
    database.close_sync()


def test_of_processes_that_make_a_file_at_once_none_fails(tmp_path):
    path = tmp_path / "deep" / "log.db"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]

    told = [racer.communicate("go\n", timeout=30)[1] for racer in racers]

    assert told == [""] * len(racers)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_only_its_owner_may_read_a_file_and_what_belongs_to_it(tmp_path):
    path = tmp_path / "new" / "log.db"
    before = os.umask(0)
    try:
        database = Database(path)
        database.write_sync(lambda connection: connection.execute("SELECT 1"))
    finally:
        os.umask(before)

    modes = {
        file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()
    }

    assert modes == dict.fromkeys(
        ("log.db", "log.db-wal", "log.db-shm", "log.db.lock"), 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    database.close_sync()


def test_a_disk_that_may_not_be_written_is_named(small_disk):
    path = small_disk / "log.db"
    Database(path).close_sync()
    mount("-o", "remount,ro", small_disk)

    with pytest.raises(StoreRefusedError, match=r"[Rr]ead-only.*log\.db"):
        Database(path)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "ceph", "fuse.sshfs"])
def test_a_disk_that_machines_share_is_refused(kind):
    mounts = (
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        f"35 22 0:40 / /srv/our\\040share rw shared:2 - {kind} server:/x rw\n"
    )

    with pytest.raises(ConfigError, match=f"{kind} is shared.*local disk"):
        check_file(Path("/srv/our share/deep/log.db"), mounts=mounts)
    check_file(Path("/srv/own/log.db"), mounts=mounts)


async def fill(log):
    """Append until the log refuses; what was accepted, and the refusal."""
    accepted: list[bytes] = []
    while True:
        value = b"%d" % len(accepted) + bytes(50_000)
        [answer] = await log.append([Record(LANE, value, [])], timeout_s=10)
        if answer != Appended():
            return accepted, answer
        accepted.append(value)


async def drain(log, count):
    """Fetch and settle so many."""
    feed, found = SqliteLaneFeed(log, [LANE], SystemClock()), []
    await feed.open()
    while len(found) < count:
        batch = await feed.fetch(10, wait_s=5)
        assert batch, f"{len(found)} of {count}"
        found += [delivery.value for delivery in batch]
        await feed.settle(batch)
    assert await feed.fetch(10, wait_s=0.1) == []
    await feed.close(timeout_s=5)
    return found


def open_small(path):
    kept = 12 << 20
    return SqliteLaneLog(
        Database(path), SystemClock(), new_topic=(1, 1, 10**6), kept_free_bytes=kept
    )


async def test_a_disk_filled_by_us_can_be_drained_and_filled_again(small_disk):
    log = open_small(small_disk / "log.db")

    accepted, answer = await fill(log)
    found = await drain(log, len(accepted))
    again, _ = await fill(log)

    assert (type(answer), answer.reason) == (Refused, Reason.QUEUE_FULL)
    assert len(accepted) > 200
    assert found == accepted
    assert len(again) > 200
    log.close(timeout_s=5)


async def test_a_disk_filled_by_others_loses_nothing_and_goes_on_when_it_is_freed(
    small_disk,
):
    log, ballast = open_small(small_disk / "log.db"), small_disk / "ballast"
    accepted, _ = await fill(log)
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65_536))
    assert os.statvfs(small_disk).f_bavail == 0

    [answer] = await log.append([Record(LANE, b"more", [])], timeout_s=10)
    feed = SqliteLaneFeed(log, [LANE], SystemClock())
    with contextlib.suppress(StoreRefusedError):
        await feed.open()
        await feed.fetch(10, wait_s=0.2)
    await feed.close(timeout_s=5)
    ballast.unlink()
    found = await drain(log, len(accepted))

    assert (type(answer), answer.reason) == (Refused, Reason.QUEUE_FULL)
    assert found == accepted
    log.close(timeout_s=5)


async def test_flipped_bits_set_their_own_records_aside_and_no_others(tmp_path):
    path, count = tmp_path / "log.db", 300
    process = Process(path)
    due_ms = SystemClock().epoch_ms() + 60_000
    marked = [Record(LANE, b"<%06d>" % i * 20, []) for i in range(count)]
    delayed = [Record(LANE, b"[%06d]" % i * 20, [], None, due_ms) for i in range(20)]
    await process.append([*marked, *delayed])
    await process.close()
    hit, hit_late = set(range(7, count, 40)), {3, 11}
    raw = bytearray(path.read_bytes())
    for mark in [b"<%06d>" % i for i in hit] + [b"[%06d]" % i for i in hit_late]:
        # Also where SQLite left old bytes behind.
        for found in re.finditer(re.escape(mark * 20), bytes(raw)):
            raw[found.start() + 3] ^= 0x04
    path.write_bytes(raw)

    process = Process(path)
    await process.database.write(
        lambda c: c.execute("UPDATE delayed SET id = id & 1048575")
    )
    feed, found = await process.feed(), []
    while batch := await feed.fetch(100, wait_s=0.3):
        found += [delivery.value[:8] for delivery in batch]
        await feed.settle(batch)
    line = await process.admin.ping()
    left = await process.waiting()
    await process.close()

    whole = [b"<%06d>" % i for i in range(count) if i not in hit]
    late = [b"[%06d]" % i for i in range(20) if i not in hit_late]
    assert sorted(found) == sorted(whole + late)
    assert f"{len(hit) + len(hit_late)} damaged records set aside" in line
    assert left == 0
