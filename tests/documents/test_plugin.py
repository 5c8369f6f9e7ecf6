"""The pytest plugin, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.documents.blocks import blocks

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
JOBS, *_ = blocks("python", page="docs/how-to/testing.md")
CONFIG = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


def run_pytest(folder: Path, *options: str) -> str:
    """What pytest says of a folder of tests, in a process of its own."""
    (folder / "pytest.ini").write_text(CONFIG)
    # By name too: an environment made before the plugin was does not announce it.
    command = [sys.executable, "-m", "pytest", "-p", "pytest_shifter", *options]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    return done.stdout + done.stderr


def test_an_example_that_does_not_hold_would_be_seen(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS.text)
    (tmp_path / "test_wrong.py").write_text(
        "from jobs import app, close_order\n"
        "def test_wrong(shifter_app):\n"
        "    close_order.defer_sync(7)\n"
        "    assert shifter_app(app).drain_sync().done == 2\n"
    )

    assert "1 failed" in run_pytest(tmp_path, "-q")


def test_the_plugin_loads_nothing_before_it_is_used(tmp_path):
    (tmp_path / "test_lazy.py").write_text(
        "import sys\n"
        "def test_lazy():\n"
        "    assert 'pytest_shifter' in sys.modules\n"
        "    assert 'shifter' not in sys.modules\n"
    )

    assert "1 passed" in run_pytest(tmp_path, "-q")


def test_the_package_announces_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert project["entry-points"]["pytest11"] == {"pytest_shifter": "pytest_shifter"}
