"""Files that others could read, or had made, were written and taken as they were.

The sound file that ``log fsck`` makes and the exports of dead letters could be read by
everybody; a SQLite file of another user, one that everybody may write to, and one with
views and triggers in it were used as if they were ours, so that ``status`` hung or jobs
were deleted; and whoever held the lock held up every command. Right is: such files are
made for their owner alone, a file that others decide about is refused with the reason,
and the wait for the lock of a file that is opened has a bound.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from shifter.adapters.sqlite.connection import prepare
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqliteFleetStore
from shifter.adapters.sqlite.fsck import check
from shifter.adapters.system import SystemClock
from shifter.errors import ConfigError, StoreRefusedError, StoreUnavailableError
from shifter.fleet.view import question
from tests.acceptance.fleet import TARGET, Fleet

pytestmark = pytest.mark.timeout(240)

NOBODY = 65_534


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path):
    """A file of ours."""
    path = tmp_path / "log.db"
    Database(path).close_sync()
    return path


@pytest.fixture
def open_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_file_that_a_check_makes_is_for_its_owner_alone(path, open_umask):
    connection = sqlite3.connect(path)
    with connection:
        connection.executemany(
            "INSERT INTO damaged (source, noted_ms, body) VALUES (?, 1, ?)",
            [("x", b"x" * 3_000) for _ in range(300)],
        )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray(path.read_bytes())
    raw[30 * 8_192 : 34 * 8_192] = b"\xff" * (4 * 8_192)
    path.write_bytes(raw)
    path.chmod(0o600)

    found = check(path, SystemClock())

    assert found.kept is not None
    assert mode_of(path) == 0o600
    assert mode_of(found.kept) == 0o600


def test_an_export_of_dead_letters_is_for_its_owner_alone(
    namespace, tmp_path, open_umask
):
    url = f"sqlite://{tmp_path / 'log.db'}"
    fleet = Fleet(url, url, namespace, tmp_path)
    try:
        fleet.run("topics", "apply", TARGET)
        fleet.run("submit", TARGET, "hopeless", "--json", '{"reason": "x"}')
        assert fleet.work("--burst").wait(60) == 0
        out = tmp_path / "letters.jsonl"
        own = ("--namespace", namespace)
        fleet.run("dlt", "export", "default", "--out", str(out), *own)
    finally:
        fleet.close()

    assert out.read_text()
    assert mode_of(out) == 0o600


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o777])
def test_a_file_that_all_users_may_write_to_is_refused(path, mode):
    path.chmod(mode)

    with pytest.raises(ConfigError, match="world-writable"):
        Database(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", ["log.db", "log.db.lock"])
def test_a_file_of_another_user_is_refused(path, name):
    os.chown(path.with_name(name), NOBODY, NOBODY)

    with pytest.raises(ConfigError, match=f"belongs to user {NOBODY}"):
        Database(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON job BEGIN DELETE FROM job; END",
        (
            "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
            "SELECT i FROM n"
        ),
        "CREATE VIRTUAL TABLE f USING fts5(x)",
    ],
    ids=["trigger", "view", "virtual table"],
)
def test_a_file_with_more_than_tables_is_refused(path, statement):
    connection = sqlite3.connect(path)
    try:
        connection.execute(statement)
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no such module")
    connection.commit()
    connection.close()

    with pytest.raises(ConfigError, match="that shifter did not make"):
        Database(path)


def test_a_view_in_the_place_of_a_table_ends_a_command_with_its_reason(
    namespace, tmp_path
):
    url = f"sqlite://{tmp_path / 'log.db'}"
    Database(tmp_path / "log.db").close_sync()
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("DROP TABLE topic")
    connection.execute(
        "CREATE VIEW topic AS WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i FROM n) SELECT i AS id, 'x' AS name FROM n"
    )
    connection.commit()
    connection.close()
    fleet = Fleet(url, url, namespace, tmp_path)

    done = fleet.run("status", "--json", "--namespace", namespace, check=False)

    assert done.returncode == 78, done.stderr
    assert "a view 'topic'" in done.stderr


def test_the_wait_for_the_lock_of_a_file_that_is_opened_has_a_bound(path):
    holder = os.open(Path(f"{path}.lock"), os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    began = time.monotonic()
    try:
        with pytest.raises(StoreUnavailableError, match="another process has held"):
            prepare(path)
    finally:
        os.close(holder)

    assert 9 < time.monotonic() - began < 60
    prepare(path).close()


@pytest.mark.parametrize("spoil", ["mode", "trigger"])
async def test_the_fleets_file_of_others_is_refused_as_any_store_is(tmp_path, spoil):
    path = tmp_path / "log.db.fleet"
    store = SqliteFleetStore(path, "shop", SystemClock())
    await store.sync(question("p"))
    await store.close()
    if spoil == "mode":
        path.chmod(0o666)
    else:
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TRIGGER t AFTER INSERT ON fleet BEGIN DELETE FROM fleet; END"
        )
        connection.commit()
        connection.close()
    store = SqliteFleetStore(path, "shop", SystemClock())

    with pytest.raises(StoreRefusedError):
        await store.sync(question("p"))
    await store.close()
