"""`submit` on a real broker and Redis: deferred, watched, drained by a real worker."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from shifter import Deferred, Ran, Shed, Shifter
from shifter.config import Secret, Settings
from shifter.policy.admission.lane_outlook import LaneFacts
from shifter.wiring import open_admin, topic_specs

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
JOBS = """
import os
from shifter import Shifter

app = Shifter(os.environ["TEST_NAMESPACE"])

@app.job(inline=False, keep_status="1h")
async def heavy(number: int) -> None: ...
"""


async def test_what_is_deferred_under_load_is_seen_waiting_and_then_done(
    kafka, redis_url, namespace, tmp_path
):
    settings = Settings(
        namespace=namespace,
        log_url=Secret.of_url(kafka.url),
        state_url=Secret.of_url(redis_url),
        partitions=2,
        spool="off",
    )
    app = Shifter(namespace, settings=settings)

    @app.job(inline=False, keep_status="1h")
    async def heavy(number: int) -> None: ...

    @app.job
    async def light(number: int) -> int:
        return number

    admin = open_admin(settings)
    await admin.apply(topic_specs(settings, ["default"]))
    await admin.close()
    async with app:
        ran = await light.submit(1)
        answers = [await heavy.submit(number) for number in range(3)]
        await seen_waiting(app, f"{namespace}.default.normal", 3)
        drained = await asyncio.to_thread(
            burst, tmp_path, namespace, kafka.url, redis_url
        )
        states = [await app.status(answer.job_id) for answer in answers]

    assert drained == 0
    assert isinstance(ran, Ran)
    assert all(isinstance(answer, Deferred) for answer in answers)
    assert [status.state.value for status in states] == ["done"] * 3


class Crowded:
    """A view in which every lane has more to do than it will have done in time."""

    def facts(self, lane: str) -> LaneFacts:
        return LaneFacts(waiting=1_000, rate_per_s=1.0)

    def deferred(self, lane: str) -> None:
        raise AssertionError(f"{lane}: deferred after all")


async def test_run_and_shed_wait_for_no_server(namespace):
    """Both take connections and never answer, from the first moment on."""
    with silent() as log, silent() as state:
        app = Shifter(
            namespace,
            settings=Settings(
                namespace=namespace,
                log_url=Secret.of_url(f"kafka://127.0.0.1:{log}"),
                state_url=Secret.of_url(f"redis://127.0.0.1:{state}"),
                concurrency=2,
                spool="off",
            ),
        )
        bank = app.dependency("bank")
        began, done = asyncio.Event(), asyncio.Event()

        @app.job(uses=bank, deadline="5s")
        async def light(number: int) -> int:
            return number

        @app.job(uses=bank, deadline="60s")
        async def hold() -> None:
            began.set()
            await done.wait()

        async with app, asyncio.TaskGroup() as group:
            ran = [await timed(light.submit(number)) for number in range(50)]
            group.create_task(hold.submit())
            await began.wait()
            views = app.admission.views
            app.admission.views = views._replace(lanes=Crowded())
            shed = [await timed(light.submit(number)) for number in range(50)]
            done.set()

    assert {type(answer) for answer, _ in ran} == {Ran}
    assert {type(answer) for answer, _ in shed} == {Shed}
    took_s = sorted(took_s for _, took_s in ran + shed)
    # Some of them may meet a pause of a busy machine.
    assert took_s[len(took_s) // 2] < 0.5, took_s


@contextmanager
def silent():
    """A port where connections are taken and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


async def timed(answering):
    began = time.perf_counter()
    return await answering, time.perf_counter() - began


async def seen_waiting(app: Shifter, lane: str, count: int) -> None:
    """Until the view that decisions are taken by shows so many."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            facts = app.admission.views.lanes.facts(lane)
            if facts is not None and facts.waiting == count:
                return
            await asyncio.sleep(0.05)


def burst(folder: Path, namespace: str, log: str, state: str) -> int:
    """A worker as an operator starts it, until nothing is left."""
    (folder / "heavyjobs.py").write_text(JOBS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
    environ = {
        **kept,
        "SHIFTER_LOG": log,
        "SHIFTER_STATE": state,
        "TEST_NAMESPACE": namespace,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
    }
    command = [sys.executable, "-m", "shifter.cli", "work", "heavyjobs:app", "--burst"]
    return subprocess.run(
        command, env=environ, cwd=folder, timeout=100, check=False
    ).returncode
