"""Every scenario, and every seeded bug, from end to end.

``make torture SCENARIO=F01 SEED=7 SECONDS=600`` plays one alone, for as long as you
like. ``SHIFTER_TORTURE_S`` sets how long faults last here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.torture.harness import bug
from tests.torture.harness.conductor import Verdict
from tests.torture.harness.jobs import BUG
from tests.torture.harness.scenario import SCENARIOS, schedule

SECONDS = float(os.environ.get("SHIFTER_TORTURE_S", "30"))
SEED = int(os.environ.get("SHIFTER_TORTURE_SEED", "1"))
ROOT = Path(__file__).parents[2]
ORDINARY = {
    ("F01", "sqlite"): 60.0,
    ("F50", "sqlite"): 8.0,
}
"""What an ordinary run plays, for so long; the rest is for `make torture-all`."""
LONGER = {("F10", "kafka"): 60.0, ("F49", "kafka"): 60.0, ("F50", "kafka"): 60.0}
ORDINARY_BUGS = {"B15"}
BUG_SECONDS = {"B15": 8.0, "B5": 60.0, "B9": 60.0}
"""B5 shows where the worker with the slow jobs stands still: each does in that time."""

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(420)]
long = pytest.mark.torture


def cases():
    for name, scenario in SCENARIOS.items():
        for log in scenario.logs:
            marks = () if (name, log) in ORDINARY else (long,)
            yield pytest.param(name, log, id=f"{name}-{log}", marks=marks)


def bugs():
    for name in bug.BUGS:
        yield pytest.param(name, marks=() if name in ORDINARY_BUGS else (long,))


def played(name, log, seconds, **environment):
    """Play in a process of its own, as `make torture` does."""
    program = [sys.executable, "-m", "tests.torture.harness", name, "--json"]
    options = ["--log", log, "--seed", str(SEED), "--seconds", str(seconds)]
    done = subprocess.run(
        [*program, *options],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr[-4_000:]
    return msgspec.json.decode(done.stdout.splitlines()[0], type=Verdict)


@pytest.mark.parametrize(("name", "log"), list(cases()))
def test_every_promise_holds_under(name, log):
    seconds = (ORDINARY | LONGER).get((name, log), SECONDS)
    verdict = played(name, log, seconds)

    assert verdict.violations == []
    assert verdict.accepted > 100


@pytest.mark.parametrize("name", list(bugs()))
def test_a_seeded_bug_is_caught(name):
    _, scenario, catchers = bug.BUGS[name]
    log = next(log for log in SCENARIOS[scenario].logs if log != "sqlite")
    seconds = BUG_SECONDS.get(name, SECONDS)

    verdict = played(scenario, log, seconds, **{BUG: name})

    caught = {violation.checker for violation in verdict.violations}
    assert caught & catchers, verdict


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_seed_gives_the_same_schedule_again(name):
    scenario = SCENARIOS[name]

    assert schedule(scenario, 7, 60) == schedule(scenario, 7, 60)
