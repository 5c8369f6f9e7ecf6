"""A machine that loses its power: what was synced stays, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from tests.torture.faults.fault import Cannot
from tests.torture.faults.power import Power

WRITER = """
import sqlite3, sys, time
path, mode = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = FULL")
connection.execute("CREATE TABLE one (n INTEGER)")
connection.execute("INSERT INTO one VALUES (1)")
connection.execute(f"PRAGMA synchronous = {mode}")
for n in range(2, 100):
    connection.execute("INSERT INTO one VALUES (?)", (n,))
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def power(tmp_path):
    try:
        return Power(tmp_path, ".db")
    except Cannot as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("mode", "kept"), [("FULL", 99), ("OFF", 1)])
def test_what_was_not_synced_is_gone(power, tmp_path, mode, kept):
    path = tmp_path / "some.db"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), mode],
        env={**os.environ, **power.environment},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    child.kill()
    child.wait()
    child.stdout.close()

    power.lose()

    connection = sqlite3.connect(path)
    [(count,)] = connection.execute("SELECT count(*) FROM one")
    [(sound,)] = connection.execute("PRAGMA integrity_check")
    connection.close()
    assert (count, sound) == (kept, "ok")
