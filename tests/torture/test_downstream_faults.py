"""F44: a dependency that answers in every wrong way, real workers, and what it saw."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from stack.tls import make_certificates
from tests.acceptance.fleet import ROOT, Fleet
from tests.torture.faults.downstream import MODES, STRANGE, Downstream

TARGET = "tests.acceptance.downstream_jobs:app"
JOBS = 20
IN_SHORT = frozenset({"429"})
SHUT_AFTER_S = 2.0
"""From the first call in vain: two processes, each with a timeout and a sync."""

pytestmark = [pytest.mark.alone, pytest.mark.redis, pytest.mark.timeout(240)]


@pytest.fixture
def fleet(redis_url, namespace, tmp_path):
    fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", redis_url, namespace, tmp_path)
    yield fleet
    fleet.close()


SUBMIT = f"""
import asyncio
from tests.acceptance.downstream_jobs import app, call

async def main():
    async with app:
        await call.defer_many([(number,) for number in range({JOBS})])

asyncio.run(main())
"""


def submit(fleet):
    subprocess.run(
        [sys.executable, "-c", SUBMIT], env=fleet.environment, cwd=ROOT, check=True
    )


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=() if mode in IN_SHORT else pytest.mark.torture)
        for mode in MODES
        if mode != "ok"
    ],
)
def test_f44_a_broken_dependency_is_left_alone_and_then_served(fleet, mode):
    shown = []
    if mode == STRANGE:
        shown = [make_certificates(fleet.folder / name) for name in ("ours", "theirs")]
        fleet.environment["DOWNSTREAM_CA"] = str(shown[0].ca_cert)
    with Downstream(*shown) as partner:
        fleet.environment["DOWNSTREAM"] = str(partner.port)
        partner.mode = mode
        fleet.run("topics", "apply", TARGET)
        submit(fleet)
        fleet.work("--processes", "2", target=TARGET)
        fleet.until(lambda: len(partner.called(mode)) >= 3)
        time.sleep(6)
        partner.mode = "ok"
        in_vain = partner.called(mode)

        def ended():
            lanes = fleet.json("status", "--namespace", fleet.namespace)
            return not any(r["waiting"] or r["delayed"] for r in lanes["lanes"])

        fleet.until(ended, timeout_s=90)
        status = fleet.json("status", "--namespace", fleet.namespace)

    dead = sum(row["count"] for row in status["dead_letters"])
    done = [line[1] for line in fleet.effects("called")]
    assert len(done) == len(set(done))
    assert len(done) + dead == JOBS
    # Those that failed twice before it was known; whoever was throttled lost nothing.
    assert dead <= (0 if mode == "429" else 8)
    late = [at for at in in_vain if at > in_vain[0] + SHUT_AFTER_S]
    assert len(late) <= 14, "more than its probes"
