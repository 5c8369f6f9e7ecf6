"""From a real backlog to the number of workers that a scaler is told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import grpc.aio
import pytest

from stack.process import free_port
from tests.acceptance.fleet import ROOT, Fleet
from tests.acceptance.keda import Keda

TARGET = "tests.acceptance.scaling_jobs:app"

pytestmark = pytest.mark.timeout(240)
embedded = pytest.mark.parametrize("fleet", ["embedded"], indirect=True)


def submit(fleet: Fleet, count: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.acceptance.scaling_jobs", str(count)],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        timeout=120,
    )


def group_of(fleet: Fleet) -> dict:
    [group] = fleet.json("scale", TARGET)["groups"]
    return group


def read(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.read()


def answer(group: dict) -> tuple:
    return group["current"], group["desired"], group["reason"]


def test_a_backlog_becomes_a_number_of_workers(fleet):
    fleet.run("topics", "apply", TARGET)
    fleet.environment["SHIFTER_SCALE_CEILING"] = "5"
    is_kafka = fleet.environment["SHIFTER_LOG"].startswith("kafka:")

    assert answer(group_of(fleet)) == (0, 0, "idle")

    submit(fleet, 3_000)
    waiting = group_of(fleet)
    assert answer(waiting) == (0, 1, "due_backlog")
    assert (waiting["due_backlog_s"], waiting["is_measured"]) == (30, False)

    # Two slots of 0.2 s: 0.1 s of a worker a job, so that 3,000 are five minutes.
    fleet.work("--concurrency", "2", target=TARGET)
    known = []

    def is_measured() -> bool:
        known.append(group_of(fleet))
        return known[-1]["is_measured"]

    fleet.until(is_measured, timeout_s=90)
    assert known[-1]["due_backlog_s"] > 100
    if is_kafka:  # three partitions
        assert answer(known[-1]) == (1, 3, "partitions")
    else:
        assert answer(known[-1]) == (1, 5, "ceiling")


@embedded
def test_keda_scales_by_the_scaler_from_nothing_and_back(fleet):
    """A scaler process answers what the command says, and ends with SIGTERM.

    Its pages show the same number as gRPC, also while no worker runs.
    """
    fleet.run("topics", "apply", TARGET)
    fleet.environment["SHIFTER_SCALE_STABILISATION"] = "0s"
    addresses = ("--listen=127.0.0.1:0", "--health=127.0.0.1:0")
    scaler = subprocess.Popen(
        [sys.executable, "-m", "shifter.cli", "scaler", TARGET, *addresses],
        env=fleet.environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pages = int(re.search(r"at 127\.0\.0\.1:(\d+)", scaler.stderr.readline())[1])
        said = scaler.stderr.readline()
        port = int(re.search(r"listens at 127\.0\.0\.1:(\d+)", said)[1])
        asyncio.run(_played(fleet, port))
        gauge = 'shifter_scale_desired_workers{group="default"} 0'
        # Stale for a moment, where a reading takes long.
        fleet.until(lambda: gauge in read(pages, "/metrics").decode(), timeout_s=90)
        assert json.loads(read(pages, "/scale"))["groups"][0]["desired"] == 0
        scaler.send_signal(signal.SIGTERM)
        assert scaler.wait(timeout=60) == 0
    finally:
        scaler.kill()
        scaler.communicate()


async def _played(fleet: Fleet, port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        keda = Keda(channel)
        stream = keda.stream()
        async with asyncio.timeout(90):
            assert (await stream.read()).result is False
            assert await keda.replicas() == 0

            await asyncio.to_thread(submit, fleet, 20)
            assert (await stream.read()).result is True
            assert await keda.replicas() == 1

            # KEDA starts a worker, which ends when nothing is left.
            worker = fleet.work("--burst", target=TARGET)
            assert (await stream.read()).result is False
            assert await keda.replicas() == 0
        assert await asyncio.to_thread(worker.wait, 90) == 0


@embedded
def test_a_supervisor_serves_the_numbers_as_a_page_and_as_gauges(fleet):
    fleet.run("topics", "apply", TARGET)
    port = free_port()
    worker = fleet.work("--health", f"127.0.0.1:{port}", target=TARGET)
    found = {}

    def ask() -> bool:
        assert worker.poll() is None, fleet.said()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/scale") as answer:
                found.update(json.loads(answer.read()))
        except OSError:  # not up yet, or 503
            return False
        return found["groups"][0]["current"] == 1

    fleet.until(ask, timeout_s=90)
    assert list(found) == ["as_of_ms", "groups", "age_s", "is_stale", "error"]
    assert (found["is_stale"], found["error"]) == (False, None)

    def is_shown() -> bool:
        page = read(port, "/metrics").decode()
        return 'shifter_scale_workers{group="default"} 1' in page

    fleet.until(is_shown, timeout_s=90)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(90) == 0
