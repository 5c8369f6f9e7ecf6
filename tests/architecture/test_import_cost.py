"""``import shifter`` is cheap: a command and a short script pay for it each time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODULES = {
    *("asyncio", "ssl", "subprocess", "multiprocessing", "sqlite3", "http.client"),
    *("confluent_kafka", "redis", "structlog", "opentelemetry", "grpc", "rich"),
}
"""What a process that declares jobs does not need until it uses it."""

MOST_MS = 260
"""Of processor time: twice what is promised, since a busy machine is slower."""


def run(program: str, **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.check_output(
        [sys.executable, "-c", program], text=True, env=kept | environ
    )


def test_import_leaves_out_what_is_not_needed_to_declare_jobs():
    program = "import shifter, sys; print(*sorted(sys.modules))"

    assert MODULES.isdisjoint(run(program).split())


def test_declaring_a_job_imports_no_event_loop_and_no_client():
    program = (
        "import shifter, sys; app = shifter.Shifter('shop')\n"
        "@app.job\n"
        "async def pay(order: int) -> None: ...\n"
        "print(*sorted(sys.modules))"
    )

    assert MODULES.isdisjoint(run(program).split())


@pytest.mark.alone
def test_import_takes_little_processor_time(tmp_path):
    # As of an installed package: the first run writes the bytecode.
    cache = {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    program = (
        "import time; before = time.process_time(); import shifter; "
        "print((time.process_time() - before) * 1_000)"
    )

    assert min(float(run(program, **cache)) for _ in range(6)) <= MOST_MS
