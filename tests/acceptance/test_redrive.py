"""From a job that fails to its replay, on the embedded log, as users do it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from shifter.deadletter import PacePolicy, ReplayPolicy, Selection
from shifter.model.claim import JobState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
JOBS = """
from __future__ import annotations
import pathlib
from shifter import Context, Priority, Shifter

app = Shifter("shop")
HERE = pathlib.Path(__file__).parent

@app.job(queue="mail", priority=Priority.LOW, attempts=1)
async def send(number: int, ctx: Context) -> None:
    if not (HERE / "mended").exists():
        raise TimeoutError(f"relay is away for {number}")
    with (HERE / "effects").open("a") as effects:
        effects.write(f"{number} {ctx.idempotency_key} {ctx.job_id}\\n")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "redrive_jobs.py").write_text(JOBS)
    url = f"sqlite://{tmp_path}/log.db"
    for name, value in (("LOG", url), ("STATE", url)):
        monkeypatch.setenv(f"SHIFTER_{name}", value)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("redrive_jobs", None)


def burst(folder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shifter.cli", "work", "redrive_jobs:app", "--burst"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_dead_job_is_replayed_and_takes_effect_once(folder):
    jobs = importlib.import_module("redrive_jobs")
    ids = []
    async with jobs.app:
        for n in range(10):
            call = jobs.send.options(idempotency_key=f"order-{n}" if n % 2 else None)
            ids.append((await call.defer(n)).job_id)
    burst(folder)
    async with jobs.app.dead_letters("mail") as letters:
        [group] = (await letters.triage()).groups()
        (folder / "mended").touch()
        run = await letters.replay(
            Selection("payload.number < 8"),
            reason="relay is back",
            by="ann",
            policy=ReplayPolicy(reset_attempts=True),
            pace=PacePolicy(slow_start_s=0),
        )
    burst(folder)

    assert (group.count, group.error) == (10, "TimeoutError")
    assert run.counts == {"sent": 8}
    lines = [line.split() for line in (folder / "effects").read_text().splitlines()]
    assert Counter(int(number) for number, _, _ in lines) == Counter(range(8))
    for number, key, job_id in lines:
        n = int(number)
        # What the handler tells others is what it told them before.
        assert key == (f"order-{n}" if n % 2 else ids[n])
        assert job_id != ids[n]
        status = await jobs.app.status(job_id)
        assert status is not None
        assert status.state is JobState.DONE
    async with jobs.app.dead_letters("shop.mail.dlt") as letters:
        assert [x.payload["number"] async for x in letters.letters()] == [8, 9]


async def test_a_job_that_dies_again_is_a_dead_letter_again(folder):
    jobs = importlib.import_module("redrive_jobs")
    async with jobs.app:
        first = (await jobs.send.defer(1)).job_id
    for replays in (1, 2, 3):
        burst(folder)
        async with jobs.app.dead_letters("mail") as letters:
            run = await letters.replay(
                reason="try", by="ann", pace=PacePolicy(slow_start_s=0)
            )
        assert run.counts == {"sent": 1}, replays
    burst(folder)
    async with jobs.app.dead_letters("mail") as letters:
        everything = [x async for x in letters.letters(Selection(again=True))]
        run = await letters.replay(
            reason="try", by="ann", pace=PacePolicy(slow_start_s=0)
        )
    async with jobs.app.dead_letters("shop.mail.dlt.parking") as parked:
        left = [x async for x in parked.letters()]

    assert len({x.story.job_id for x in everything}) == 4
    assert everything[0].story.job_id == first
    assert run.counts == {"parked": 1}
    assert [x.story.error_type for x in left] == ["TimeoutError"]
