"""kill -9 of writers and drainers, again and again, on one file.

25 kills in an ordinary run; ``SHIFTER_KILLS=500`` for more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from shifter.adapters.sqlite import member
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.system import SystemClock
from shifter.ports import Record
from tests.integration.sqlite.hammer import HELD_MS, LANE, open_log

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("SHIFTER_KILLS", "25"))
ROLES = ("write", "write", "drain", "drain")


class Crew:
    """Processes at work, replaced as they are killed."""

    def __init__(self, folder, roles=ROLES):
        self.path, self._folder = folder / "log.db", folder
        self._count = 0
        self._crew = [self._start(role) for role in roles]

    def _start(self, role):
        self._count += 1
        program = "tests.integration.sqlite.hammer"
        notes = self._folder / f"{self._count}.notes"
        return subprocess.Popen(
            [sys.executable, "-m", program, role, str(self.path), str(notes)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def kill_one(self, number):
        self._end(self._crew[number])
        self._crew[number] = self._start(ROLES[number])

    def kill_all(self):
        for process in self._crew:
            self._end(process)

    def _end(self, process):
        assert process.poll() is None, f"ended by itself: {process.returncode}"
        process.send_signal(signal.SIGKILL)
        process.wait()

    def noted(self):
        """What was noted, by kind; a last line may be torn."""
        found = {kind: Counter() for kind in "ahs"}
        for file in self._folder.glob("*.notes"):
            for line in file.read_text().split("\n")[:-1]:
                kind, _, name = line.partition(" ")
                found[kind][name] += 1
        return found

    def has_done(self, count):
        """Whether more than so many were accepted, and half of them settled."""
        noted = self.noted()
        return len(noted["a"]) > count and len(noted["s"]) > count / 2


async def rest_of(path):
    """What is still in the file, once nobody else is there."""
    log = open_log(path)
    feed = SqliteLaneFeed(log, [LANE], SystemClock())
    await feed.open()
    left = []
    while found := await feed.fetch(1_000, wait_s=1):
        left += [delivery.value.decode() for delivery in found]
        await feed.settle(found)
    await feed.close(timeout_s=5)
    log.close(timeout_s=5)
    return left


@pytest.mark.timeout(180 + KILLS)
async def test_nothing_accepted_is_lost_and_nothing_settled_comes_back(tmp_path):
    seed = random.randrange(1 << 32)
    draw, crew = random.Random(seed), Crew(tmp_path)
    try:
        for _ in range(KILLS):
            await asyncio.sleep(draw.uniform(0.1, 0.4))
            crew.kill_one(draw.randrange(len(ROLES)))
        # Those that were started last have the time to do something, too.
        async with asyncio.timeout(100):
            while not crew.has_done(10 * KILLS):
                await asyncio.sleep(0.5)
    finally:
        crew.kill_all()
    noted = crew.noted()

    left = await rest_of(crew.path)

    accepted, handed, settled = (set(noted[kind]) for kind in "ahs")
    unsure = accepted - settled - set(left)
    where = f"seed {seed}"
    assert len(accepted) > 10 * KILLS, where
    assert len(settled) > 5 * KILLS, where
    assert len(left) == len(set(left)), where
    with closing(sqlite3.connect(crew.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for (live,) in connection.execute("SELECT sum(live) FROM lane"):
            assert live == 0, f"{where}: {live} wait for somebody who has ended"
    # A kill between commit and note leaves a batch that was handed out, no more.
    assert unsure <= handed, f"{where}: lost {sorted(unsure - handed)[:5]}"
    assert len(unsure) <= 50 * (KILLS + len(ROLES)), where
    assert not settled & set(left), where
    assert max(noted["s"].values()) == 1, where


async def test_what_a_killed_worker_held_does_not_wait_for_its_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(member, "ALIVE_MS", HELD_MS)
    log, clock = open_log(tmp_path / "log.db"), SystemClock()
    await log.append([Record(LANE, b"1", [], b"key")], timeout_s=5)
    crew = Crew(tmp_path, roles=["hold"])
    try:
        async with asyncio.timeout(40):
            while not crew.noted()["h"]:
                await asyncio.sleep(0.02)
    finally:
        crew.kill_all()

    feed = SqliteLaneFeed(log, [LANE], clock)
    await feed.open()
    found = await feed.fetch(1, wait_s=40)

    assert [delivery.value for delivery in found] == [b"1"]
    await feed.close(timeout_s=5)
    log.close(timeout_s=5)
