"""Workers and a service that call a server which accepts and never answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from shifter import Shifter
from shifter.config.load import load_settings
from shifter.errors import CircuitOpenError
from tests.acceptance.hanging_jobs import CUT_S, call, declare

TARGET = "tests.acceptance.hanging_jobs:app"
APART, JOBS_APART = "tests.acceptance.hanging_jobs:apart", 16
JOBS, CALLS, SLOTS, IN_A_ROW = 60, 60, 4, 5
WORKERS = 2
MOST_CALLS = (WORKERS + 1) * (IN_A_ROW + SLOTS - 1)
"""Each process learns from five; meanwhile its other slots call too."""


class Counting:
    """Accepts, counts, and never answers."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listening.getsockname()[1]
        self.calls = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.calls.append(self.listening.accept())

    def close(self):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listening.close()
        for caller, _ in self.calls:
            caller.close()


@pytest.mark.timeout(240)
def test_a_dependency_that_never_answers_is_left_alone_by_workers_and_a_service(fleet):
    with contextlib.closing(Counting()) as server:
        fleet.environment |= {
            "HUNG_PORT": str(server.port),
            "SHIFTER_CONCURRENCY": str(SLOTS),
        }
        fleet.run("topics", "apply", TARGET)
        fleet.work("--processes", str(WORKERS), target=TARGET)
        refused = asyncio.run(serve(fleet, server.port))

        def circuit():
            (row,) = fleet.json("circuit", "list", "--namespace", fleet.namespace)
            return row

        fleet.until(
            lambda: circuit()["held_back"].get("circuit", 0) > JOBS, timeout_s=120
        )
        assert circuit()["state"] == "open"

    assert refused > CALLS / 2
    assert len(server.calls) <= MOST_CALLS


@pytest.mark.timeout(240)
@pytest.mark.parametrize("job", ["pay_apart", "pay_apart_in_loop"])
def test_a_block_in_a_process_that_is_killed_counts_for_its_worker(fleet, job):
    """What the process knew of the call is lost with it."""
    with contextlib.closing(Counting()) as server:
        fleet.environment["HUNG_PORT"] = str(server.port)
        fleet.run("topics", "apply", APART)
        asyncio.run(defer_apart(fleet, job))
        fleet.work("--processes", "1", "--concurrency", "2", target=APART)

        def is_open():
            rows = fleet.json("circuit", "list", "--namespace", fleet.namespace)
            return [row["state"] for row in rows] == ["open"]

        fleet.until(is_open, timeout_s=120)

        # A child may call once more before it has read the fleet's circuit.
        assert IN_A_ROW <= len(server.calls) < JOBS_APART


async def defer_apart(fleet, name):
    app = Shifter(fleet.namespace, settings=settings_of(fleet))

    @app.job(name=name, timeout="1500ms", attempts=1)
    async def pay(number: int) -> None: ...

    async with app:
        await pay.defer_many([(number,) for number in range(JOBS_APART)])


def settings_of(fleet):
    return load_settings(fleet.namespace, environ=fleet.environment)


async def serve(fleet, port):
    """A service that defers jobs, then calls; how many calls the circuit refused."""
    app, refused = Shifter(fleet.namespace, settings=settings_of(fleet)), 0
    bank, jobs = declare(app, port)
    async with app:
        for job in jobs:
            await job.defer_many([(number,) for number in range(JOBS // len(jobs))])
        for _ in range(CALLS):
            try:
                async with asyncio.timeout(CUT_S), bank:
                    await call(port)
            except TimeoutError:
                pass
            except CircuitOpenError:
                refused += 1
                await asyncio.sleep(0.02)
    return refused
