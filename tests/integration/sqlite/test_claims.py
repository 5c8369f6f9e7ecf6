"""Claims of several processes on one file, some of which are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.system import SystemClock
from shifter.model.claim import Busy, Granted, JobState
from shifter.testing.clock import FakeClock
from shifter.testing.conformance.claim_bench import ask, end, state_of

ROOT = Path(__file__).parents[3]
JOBS = 600
LEASE_MS = 30_000


class Worker:
    """A process that claims what it is told to."""

    def __init__(self, path, owner):
        program = "tests.integration.sqlite.claimer"
        self.process = subprocess.Popen(
            [sys.executable, "-m", program, str(path), owner],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def hear(self):
        return self.process.stdout.readline().split()

    def hear_all(self):
        """Lines up to ``end``."""
        lines = []
        while (line := self.hear()) != ["end"]:
            assert line, "the worker ended"
            lines.append(line)
        return lines

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fleet.db"


@pytest.fixture
def start(path):
    """Start a worker on the file and wait until it listens."""
    workers = []

    def start(owner):
        worker = Worker(path, owner)
        workers.append(worker)
        assert worker.hear() == ["ready"]
        return worker

    yield start
    for worker in workers:
        worker.kill()
        worker.process.stdin.close()
        worker.process.stdout.close()


@pytest.fixture
def clock():
    """The time of the workers, which only this test moves on."""
    return FakeClock(SystemClock().epoch_ms())


@pytest.fixture
async def store(path, clock):
    store = SqliteClaimStore(Database(path), "shop", clock)
    yield store
    await store.close()


async def test_each_job_is_granted_to_exactly_one_of_four_processes(store, start):
    workers = [start(f"w{i}") for i in range(4)]

    for worker in workers:
        worker.tell("race", JOBS)
    granted = [name for worker in workers for name, _ in worker.hear_all()]

    assert Counter(granted) == Counter(f"j{i}" for i in range(JOBS))
    assert await state_of(store, "j0") is JobState.DONE
    assert await state_of(store, f"j{JOBS - 1}") is JobState.DONE


async def test_the_lease_of_a_killed_process_runs_out_and_the_next_fence_is_higher(
    store, start, clock
):
    holder = start("w1")
    holder.tell("hold", LEASE_MS)
    (fence,) = map(int, holder.hear())
    holder.kill()

    busy = await ask(store)
    clock.advance(LEASE_MS / 1_000)
    after = await ask(store)

    assert isinstance(busy, Busy)
    assert busy.retry_in_ms <= LEASE_MS
    assert isinstance(after, Granted)
    assert after.losses == 1
    assert after.fence > fence
    assert await end(store, fence) is False
    assert await end(store, after.fence) is True


async def test_a_process_killed_in_the_middle_of_a_claim_holds_nothing(store, start):
    holder = start("w1")
    holder.tell("stall")
    assert holder.hear() == ["claimed"]
    holder.kill()

    answer = await ask(store)

    assert isinstance(answer, Granted)
    assert answer.losses == 0
