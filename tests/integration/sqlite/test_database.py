"""The file under what processes and disks do to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from shifter.adapters.sqlite.database import Database

ROOT = Path(__file__).parents[3]
PATIENCE_S = 40


class Told(NamedTuple):
    """What a program said."""

    stdout: str
    stderr: str


def run(program, *words):
    """Run a program of this folder until it and all its children have ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.sqlite.{program}", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        return Told(*process.communicate(timeout=PATIENCE_S))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def until(check):
    async with asyncio.timeout(PATIENCE_S):
        while not check():
            await asyncio.sleep(0.02)


def jobs(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (found,) = connection.execute("SELECT count(*) FROM job").fetchone()
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_jobs_that_a_forked_child_deferred_are_there_when_its_parent_has_left(tmp_path):
    path = tmp_path / "log.db"

    told = run("forker", "parent_leaves", path)

    assert told.stderr == ""
    assert jobs(path) == int(told.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_parent_killed_while_it_writes_does_not_lock_its_forked_child_out(tmp_path):
    path = tmp_path / "log.db"

    told = run("forker", "parent_is_killed", path)

    assert told.stderr == ""
    assert jobs(path) == int(told.stdout) == 11


async def test_pages_that_are_free_are_given_back_while_others_write_now_and_then(
    tmp_path,
):
    path = tmp_path / "log.db"
    database = Database(path)
    rows = [(1, bytes(1_000))] * 12_000

    def fill(connection):
        connection.executemany(
            "INSERT INTO spool (crc, spooled_ms, body) VALUES (?, 0, ?)", rows
        )

    await database.write(fill)
    await until(lambda: path.stat().st_size > 10_000_000)
    await database.write(lambda connection: connection.execute("DELETE FROM spool"))

    async with asyncio.timeout(PATIENCE_S):
        while path.stat().st_size > 1_000_000:
            await database.write(
                lambda connection: connection.execute("UPDATE spool_count SET id = id")
            )
            await asyncio.sleep(0.4)
    await database.close()
