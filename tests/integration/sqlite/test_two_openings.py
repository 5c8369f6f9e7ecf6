"""A file that one process opens twice, while another opens and closes it.

SQLite's locks are the process's: whoever closes a descriptor of the file beside SQLite
drops them all. The next process that closes the file then takes itself for the last
one and deletes the journal that the first still writes to, and what that commits
afterwards is lost without an error.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import check_file

ROOT = Path(__file__).parents[3]
READ_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM presence").fetchone()[0])
connection.close()
"""


def put(database, key):
    database.write_sync(
        lambda c: c.execute("REPLACE INTO presence VALUES (?, 1, x'')", (key,)),
        timeout_s=10,
    )


def seen_by_another_process(path):
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_CLOSE, str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    return int(done.stdout)


def test_what_is_committed_after_a_second_opening_is_there_for_all(tmp_path):
    path = tmp_path / "fleet.db"
    first = Database(path)
    put(first, b"1")

    second = Database(path)
    check_file(path)
    before = seen_by_another_process(path)
    put(first, b"2")
    put(second, b"3")
    after = seen_by_another_process(path)

    assert (before, after) == (1, 3)
    second.close_sync()
    first.close_sync()
    assert seen_by_another_process(path) == 3
