"""The collector visits neither the modules of a worker nor each record several times.

What was wrong: with Python's own limits the collector took 15 % of a worker's time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shifter.runtime.garbage import YOUNG

APP = """
import gc
SETTING
from shifter import Shifter
from shifter.supervise import entrypoint
from shifter.work.worker import WorkOptions

app = Shifter("garbage")

async def look(*_):
    import json
    print(json.dumps([gc.get_threshold()[0], gc.get_freeze_count()]))

if __name__ == "__main__":
    entrypoint._work = look
    entrypoint.worker_process(WorkOptions("jobs:app"))
"""


@pytest.mark.parametrize(
    ("setting", "young"),
    [("", YOUNG), ("gc.set_threshold(1_234)", 1_234)],
)
def test_worker_spares_its_modules_and_keeps_the_limit_that_an_app_set(
    tmp_path, setting, young
):
    (tmp_path / "jobs.py").write_text(APP.replace("SETTING", setting))
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    program = [sys.executable, str(tmp_path / "jobs.py")]

    ended = subprocess.run(
        program,
        check=True,
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=100,
    )

    found, frozen = json.loads(ended.stdout)
    assert found == young
    assert frozen > 10_000
