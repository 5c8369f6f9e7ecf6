"""A worker process imports the app while its command still looks at the servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.process import free_port
from tests.acceptance.fleet import Fleet

TARGET = "tests.acceptance.imported_jobs:app"

pytestmark = pytest.mark.timeout(240)


def importers(fleet: Fleet) -> list[str]:
    """Processes that have imported the app."""
    return [pid for _, _, _, pid, *_ in fleet.effects("imported")]


def test_a_worker_imports_the_app_while_the_command_waits_for_its_servers(
    namespace, tmp_path
):
    away = f"kafka://127.0.0.1:{free_port()}"
    fleet = Fleet(away, f"sqlite://{tmp_path}/state.db", namespace, tmp_path)
    try:
        command = fleet.work("--wait", "200s", target=TARGET)

        fleet.until(lambda: len(importers(fleet)) == 2)

        assert command.poll() is None
        command.terminate()
        command.wait(60)
        assert len(set(importers(fleet))) == 2
    finally:
        fleet.close()


def test_a_command_that_ends_with_an_error_leaves_no_process(namespace, tmp_path):
    url = f"sqlite://{tmp_path}/fleet.db"
    fleet = Fleet(url, url, namespace, tmp_path)

    done = fleet.run("work", TARGET, "--processes", "0", check=False)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    left = [pid for pid in importers(fleet) if Path(f"/proc/{pid}").exists()]
    assert left == []
