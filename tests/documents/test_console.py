"""Every command of the README's console blocks, run as a newcomer would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EMBEDDED, DEMO, SERVERS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def environment(tmp_path):
    """A newcomer's: empty folders, the command on the path, no index to ask."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
    return kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run(block, environment):
    """All commands of a block in one shell; what they printed."""
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_quick_start_runs_without_any_server(environment, tmp_path):
    # What is installed already is neither fetched again nor replaced.
    pip = {
        "PIP_TARGET": str(tmp_path / "site"),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }

    out = run(EMBEDDED, environment | pip)

    assert re.search(r"^mail +LOW +1 ", out, re.MULTILINE), out
    assert (tmp_path / "site" / "shifter").is_dir()
    assert (tmp_path / "state" / "shifter" / "shop.db").exists()


def test_the_demo_loses_nothing(environment):
    out = run(DEMO, environment)

    assert '"lost":0' in out.replace(" ", "")


@pytest.mark.kafka
@pytest.mark.redis
def test_the_same_commands_run_on_kafka_and_redis(environment):
    try:
        out = run(SERVERS, environment)
    finally:
        subprocess.run(["make", "stack-down"], cwd=ROOT, env=environment, check=False)

    assert re.search(r"^mail +LOW +1 ", out, re.MULTILINE), out
