"""What may lie where a log or a spool should be, rows 63 to 70.

Ours are SQLite files: a segment is a file, its header SQLite's, a record's length is in
its cell and in its body. Elsewhere: disks that are full or read-only, many processes that
make one file, forks and kills (``tests/integration/sqlite``).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from shifter.adapters.sqlite.connection import VERSION
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import FileGoneError
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.spool import SqliteSpool
from shifter.adapters.system import SystemClock
from shifter.cli import main
from shifter.errors import StoreUnavailableError
from shifter.model.advice import OK, WARN
from shifter.model.reason import Reason
from shifter.ops.doctor import check_versions
from shifter.ports import Appended, Record, Refused, SpoolEntry
from tests.acceptance.fleet import Fleet
from tests.integration.sqlite.test_lanes import LANE, Process

pytestmark = pytest.mark.timeout(240)

PAGE_BYTES = 8_192
LEAF = 0x0D
COUNT = 1_500


class Place:
    """A log or a spool in a file, and the command line that looks after it."""

    def __init__(self, kind: str, path: Path, capsys) -> None:
        self.kind, self.path, self._capsys = kind, path, capsys

    def fill(self, count: int = COUNT) -> None:
        """Put records with marks of their own; all of it in the file itself."""
        database, records = Database(self.path), [record(n) for n in range(count)]
        if self.kind == "log":
            log = SqliteLaneLog(database, SystemClock(), new_topic=(1, 60_000, 10**6))
            assert log.append_sync(records, timeout_s=20) == [Appended()] * count
            log.close(timeout_s=30)
        else:
            spool = SqliteSpool(database, SystemClock())
            # Numbers as they come at one record a minute: far apart.
            entries = [
                SpoolEntry(((n + 1) * 60_000) << 20, r) for n, r in enumerate(records)
            ]
            spool.put(entries, timeout_s=20)
            spool.close()

    def left(self) -> list[int]:
        """The records that can be had."""
        if self.kind == "spool":
            spool = SqliteSpool(Database(self.path), SystemClock())
            found = [number_of(entry.record) for entry in spool.take(10_000)]
            assert spool.depth().waiting == len(found)
            spool.close()
            return found
        return asyncio.run(self._drained())

    async def _drained(self) -> list[int]:
        process, found = Process(self.path), []
        feed = await process.feed()
        while batch := await feed.fetch(5_000, wait_s=0.2):
            found += [number_of(delivery) for delivery in batch]
            await feed.settle(batch)
        assert await process.waiting() == 0
        await process.close()
        return found

    def run(self, *verb: str) -> tuple[int, str, str]:
        """One command; its exit code and what it said."""
        code = main([*verb])
        return code, *self._capsys.readouterr()

    def fsck(self) -> tuple[int, dict]:
        """Check it."""
        code, out, _ = self.run(self.kind, "fsck", "--json")
        return code, json.loads(out)


def record(number: int) -> Record:
    return Record(LANE, b"<%06d>" % number * 20, [("n", b"%d" % number)])


def number_of(found) -> int:
    assert found.value == b"<%06d>" % int(found.headers[0][1]) * 20
    return int(found.headers[0][1])


@pytest.fixture(params=["log", "spool"])
def place(request, tmp_path, monkeypatch, capsys) -> Place:
    path = tmp_path / "jobs.db"
    is_log = request.param == "log"
    log = f"sqlite://{path}" if is_log else "kafka://127.0.0.1:9"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIFTER_NAMESPACE", "shop")
    monkeypatch.setenv("SHIFTER_LOG", log)
    monkeypatch.setenv("SHIFTER_STATE", f"sqlite://{tmp_path / 'state.db'}")
    monkeypatch.setenv("SHIFTER_SPOOL", "auto" if is_log else str(path))
    return Place(request.param, path, capsys)


# --- nothing is there, or nothing of ours ---------------------------------------------


def header_only(path: Path) -> None:
    Database(path).close_sync()
    os.truncate(path, 100)


def first_page_only(path: Path) -> None:
    Database(path).close_sync()
    os.truncate(path, PAGE_BYTES)


def half_a_page(path: Path) -> None:
    Database(path).close_sync()
    os.truncate(path, PAGE_BYTES // 2)


def page_size_of_2_to_the_32(path: Path) -> None:
    Database(path).close_sync()
    overwrite(path, 16, b"\xff" * 16)


def newer(path: Path) -> None:
    Database(path).close_sync()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def text(path: Path) -> None:
    path.write_text("a shopping list\n" * 100)


def link(path: Path) -> None:
    Database(path.with_suffix(".other")).close_sync()
    path.symlink_to(path.with_suffix(".other"))


def as_it_is(path: Path) -> tuple[int, int, bytes]:
    """What it is, which it is, and what is in it."""
    found = path.lstat()
    content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
    return found.st_mode, found.st_ino, content


DAMAGED = "the file is damaged"
NO_DATABASE = "not a database"
OTHER_PATH = "choose another path"


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        pytest.param(header_only, 77, DAMAGED, id="64-header only"),
        pytest.param(half_a_page, 77, DAMAGED, id="64-half a page"),
        pytest.param(first_page_only, 77, DAMAGED, id="64-first page only"),
        pytest.param(
            page_size_of_2_to_the_32, 77, NO_DATABASE, id="66-sizes of 2^32-1"
        ),
        pytest.param(newer, 78, "upgrade shifter", id="67-future version"),
        pytest.param(of_another_program, 78, OTHER_PATH, id="68-foreign file"),
        pytest.param(text, 77, OTHER_PATH, id="68-text"),
        pytest.param(link, 78, OTHER_PATH, id="68-link"),
        pytest.param(os.mkfifo, 78, OTHER_PATH, id="68-pipe"),
        pytest.param(os.mkdir, 78, OTHER_PATH, id="68-directory"),
        pytest.param(newer, 78, "upgrade shifter", id="70-newer schema"),
        pytest.param(text, 77, OTHER_PATH, id="70-not a database"),
    ],
)
def test_what_is_no_file_of_ours_is_named_and_left_alone(place, make, code, said):
    make(place.path)
    before = as_it_is(place.path)
    verbs = (
        ("status", "log fsck")
        if place.kind == "log"
        else ("spool status", "spool fsck")
    )

    ends = [place.run(*verb.split()) for verb in verbs]

    for ended, out, err in ends:
        assert (ended, out) == (code, "")
        assert [line[:7] for line in err.splitlines()] == [
            "error: ",
            "  why: ",
            "  fix: ",
        ]
        assert said in err
        assert str(place.path) in err
    assert as_it_is(place.path) == before


def test_63_a_file_of_no_length_is_made(place):
    place.path.touch(mode=0o600)

    code, told = place.fsck()

    assert (code, told["records"], told["set_aside"]) == (0, 0, [])
    place.fill(3)
    assert place.left() == [0, 1, 2]


def test_63_a_file_that_is_not_there_is_not_made_by_looking_for_damage(place):
    code, told = place.fsck()

    assert code == 78
    assert "there is no such file" in json.dumps(told["error"])
    assert not place.path.exists()


# --- damage in the middle ---------------------------------------------------------------


def overwrite(path: Path, at: int, raw: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(raw)


def numbers_on(raw: bytes, page: int) -> set[int]:
    """Records whose cells are on a page; old bytes of others do not count."""
    if raw[page] != LEAF:
        return set()
    count = int.from_bytes(raw[page + 3 : page + 5], "big")
    found = set()
    for at in range(page + 8, page + 8 + 2 * count, 2):
        cell = page + int.from_bytes(raw[at : at + 2], "big")
        mark = re.search(rb"<(\d{6})>", raw[cell : cell + 200])
        if mark:
            found.add(int(mark[1]))
    return found


def page_of(path: Path, number: int) -> tuple[int, set[int]]:
    """Where the page with a record begins, and all records on it."""
    raw = path.read_bytes()
    for page in range(PAGE_BYTES, len(raw), PAGE_BYTES):
        if number in (on_it := numbers_on(raw, page)):
            return page, on_it
    raise AssertionError(number)


def test_65_records_with_flipped_bits_are_set_aside_and_no_others(place):
    place.fill()
    raw, hit = bytearray(place.path.read_bytes()), set(range(7, COUNT, 200))
    for number in hit:
        # Also where SQLite left old bytes behind.
        for found in re.finditer(b"<%06d>" % number * 20, bytes(raw)):
            raw[found.start() + 3] ^= 0x04
    place.path.write_bytes(raw)

    code, told = place.fsck()

    assert code == 3
    assert (told["records"], told["damaged"]) == (COUNT - len(hit), len(hit))
    assert len(told["set_aside"]) == len(hit)
    assert all(one["source"] and one["size_bytes"] > 100 for one in told["set_aside"])
    assert told["kept"] is None
    assert place.left() == [n for n in range(COUNT) if n not in hit]
    assert place.fsck()[0] == 0


@pytest.mark.parametrize("spoil", ["zeros", "noise", "type"])
def test_65_pages_that_cannot_be_read_cost_what_is_on_them_and_nothing_else(
    place, spoil
):
    place.fill()
    pages = dict(page_of(place.path, number) for number in (300, 700, 780, 1_100))
    assert len(pages) == 4
    lost = set().union(*pages.values())
    content = {
        "zeros": bytes(PAGE_BYTES),
        "noise": os.urandom(PAGE_BYTES),
        "type": b"\x07",
    }[spoil]
    for page in pages:
        overwrite(place.path, page, content)
    damaged = place.path.read_bytes()

    code, told = place.fsck()

    assert code == 3
    assert told["unreadable"] == len(lost)
    assert Path(told["kept"]).read_bytes() == damaged
    assert place.left() == [n for n in range(COUNT) if n not in lost]
    code, again = place.fsck()
    assert (code, again["kept"]) == (0, None)


def test_66_a_body_that_lies_about_its_length_is_set_aside(place):
    place.fill(5)
    lie = b"\xdd\xff\xff\xff\xff"
    table = "job" if place.kind == "log" else "spool"
    with closing(sqlite3.connect(place.path)) as connection, connection:
        connection.execute(
            f"UPDATE {table} SET body = ?, crc = ? "
            f"WHERE id = (SELECT min(id) FROM {table})",
            (lie, zlib.crc32(lie)),
        )

    code, told = place.fsck()

    assert (code, told["records"], told["damaged"]) == (3, 4, 1)
    assert place.left() == [1, 2, 3, 4]


def test_65_a_body_that_one_bit_makes_a_text_is_set_aside(place):
    place.fill(5)
    table = "job" if place.kind == "log" else "spool"
    with closing(sqlite3.connect(place.path)) as connection, connection:
        connection.execute(
            f"UPDATE {table} SET body = CAST(x'ff' || body AS TEXT) "
            f"WHERE id = (SELECT min(id) FROM {table})"
        )

    code, told = place.fsck()

    assert (code, told["records"], told["damaged"]) == (3, 4, 1)
    assert place.left() == [1, 2, 3, 4]


def test_66_a_cell_that_lies_about_its_length_costs_no_other_page(place):
    place.fill()
    page, lost = page_of(place.path, 300)
    raw = place.path.read_bytes()
    # The first cell pointer of the page leads to the length of its first record.
    cell = page + int.from_bytes(raw[page + 8 : page + 10], "big")
    overwrite(place.path, cell, b"\x8f\xff\xff\xff\x7f")

    code, told = place.fsck()

    left = place.left()
    assert code == 3
    assert set(range(COUNT)) - set(left) <= lost
    assert len(left) == COUNT - told["unreadable"] - told["damaged"]


def test_what_was_lost_with_its_topic_is_set_aside_and_not_forgotten(place):
    if place.kind == "spool":
        pytest.skip("a spooled record names its topic itself")
    place.fill(20)
    with closing(sqlite3.connect(place.path)) as connection:
        [(root,)] = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'topic'"
        ).fetchall()
    overwrite(place.path, (root - 1) * PAGE_BYTES, bytes(PAGE_BYTES))

    code, told = place.fsck()

    assert code == 3
    assert [one["source"].split()[0] for one in told["set_aside"]] == ["job"] * 20


# --- others use it too ------------------------------------------------------------------

PUTS = """
import sys
from pathlib import Path
from tests.bad_inputs.test_spool_and_files import Place
sys.stdin.readline()
Place(sys.argv[1], Path(sys.argv[2]), None).fill(300)
"""


def test_69_two_processes_share_a_file(place):
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", PUTS, place.kind, str(place.path)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    told = [writer.communicate("go\n", timeout=100)[1] for writer in writers]

    assert told == ["", ""]
    assert sorted(place.left()) == sorted([*range(300), *range(300)])


def test_69_one_process_forwards_a_spool(place):
    if place.kind == "log":
        pytest.skip("nothing is forwarded from a log")
    place.fill(1)
    spool = SqliteSpool(Database(place.path), SystemClock())

    with spool.forwarding() as is_ours:
        code, out, err = place.run("spool", "flush")

    spool.close()
    assert (is_ours, code, out) == (True, 75, "")
    assert "another process forwards this spool" in err


def test_70_a_file_that_another_program_holds_is_unavailable(tmp_path):
    database = Database(tmp_path / "jobs.db")
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="SQLITE_BUSY"):
            database.write_sync(lambda c: c.execute("DELETE FROM damaged"))
        other.execute("ROLLBACK")

    database.write_sync(lambda c: c.execute("DELETE FROM damaged"))
    database.close_sync()


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 40, 1), WARN), ((3, 50, 7), OK), ((3, 51, 2), WARN), ((3, 51, 3), OK)],
)
def test_70_doctor_warns_of_an_sqlite_with_the_wal_reset_bug(
    monkeypatch, version, status
):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    monkeypatch.setattr(sqlite3, "sqlite_version", ".".join(map(str, version)))

    [found] = [one for one in check_versions() if one.name == "sqlite"]

    assert found.status == status
    assert ("WAL-reset bug" in found.detail) == (status == WARN)


@pytest.mark.parametrize("replace", [False, True], ids=["deleted", "replaced"])
async def test_a_file_taken_away_under_a_process_refuses_all_it_is_asked(
    tmp_path, replace
):
    path = tmp_path / "jobs.db"
    process = Process(path)
    await process.append([record(0)])
    feed = await process.feed()
    path.unlink()
    if replace:
        Database(path).close_sync()

    [answer] = await process.log.append([record(1)], timeout_s=30)

    assert (type(answer), answer.reason) == (Refused, Reason.REFUSED_BY_LOG)
    assert "removed or replaced" in answer.detail
    for asked in (feed.fetch(10, wait_s=0.1), process.waiting()):
        with pytest.raises(FileGoneError, match="restart this process"):
            await asked
    assert path.exists() == replace
    await process.log.append([], timeout_s=1)


def test_a_worker_whose_file_is_deleted_reports_it_and_starts_anew(tmp_path, namespace):
    url = f"sqlite://{tmp_path / 'jobs.db'}"
    fleet = Fleet(url, url, namespace, tmp_path)
    try:
        worker = fleet.work(target="tests.bad_inputs.jobs:app")
        fleet.until(lambda: shows_a_worker(fleet))

        for path in tmp_path.glob("jobs.db*"):
            path.unlink()

        fleet.until(lambda: '"worker.failed"' in fleet.said(10**9))
        fleet.until(lambda: shows_a_worker(fleet))
        worker.terminate()
        assert worker.wait(60) == 0
        assert "removed or replaced while in use" in fleet.said(10**9)
        assert "Traceback" not in fleet.said(10**9)
    finally:
        fleet.close()


def shows_a_worker(fleet: Fleet) -> bool:
    return bool(fleet.json("status", "--namespace", fleet.namespace)["workers"])
