"""A worker process that finds its log away when it starts."""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path

import pytest

from shifter.adapters.system import SystemClock
from shifter.supervise.entrypoint import worker_process
from shifter.supervise.supervisor import ProcessHealth, Supervisor
from shifter.work.worker import WorkOptions
from stack.process import free_port
from tests.acceptance.fleet import TARGET


def child(starts, line):
    """A worker at its first start; then nothing goes wrong any more."""
    with Path(starts).open("a") as file:
        file.write("started\n")
    if len(Path(starts).read_text().splitlines()) == 1:
        worker_process(WorkOptions(TARGET), line)
    sys.exit(0)


@pytest.mark.timeout(240)
async def test_a_log_that_is_away_at_the_start_ends_no_supervisor(
    tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.setenv("SHIFTER_LOG", f"kafka://127.0.0.1:{free_port()}")
    monkeypatch.setenv("SHIFTER_STATE", f"sqlite:///{tmp_path}/state.db")
    starts, health = tmp_path / "starts", ProcessHealth(1, SystemClock())
    supervisor = Supervisor(
        functools.partial(child, str(starts)),
        processes=1,
        kill_after_s=5,
        health=health,
        watchdog_s=0,
    )

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        while not starts.exists() or len(starts.read_text().splitlines()) < 2:
            assert not running.done(), running.result()
            await asyncio.sleep(0.05)
        supervisor.stop()

    assert running.result() == 0
    assert "worker cannot start: kafka" in capfd.readouterr().err
    assert "exit_code=69" in caplog.text
