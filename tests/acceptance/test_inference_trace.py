"""An hour of two real services, played through two worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack.kafka import KafkaCluster

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def environment(kafka: KafkaCluster, redis_url: str, namespace: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "SHIFTER_LOG": kafka.url,
        "SHIFTER_STATE": redis_url,
        "SHIFTER_NAMESPACE": namespace,
    }


@pytest.mark.timeout(600)
def test_whole_trace_is_done_exactly_once_by_two_processes(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "examples.inference.play"]
    sizes = ["--speedup", "60", "--slots", "48", "--processes", "2"]

    code, out, err = run(
        [*command, *sizes, "--json", "--out", str(tmp_path)], environment
    )

    assert code == 0, err + log_of(tmp_path)
    report: dict[str, Any] = json.loads(out)
    assert report["requests"] == report["accepted"] == report["done"] == 28_185
    assert (report["lost"], report["doubled"], report["refused"]) == (0, 0, {})
    assert report["unknown_ids"] == 0
    outcomes = {p: row["outcomes"] for p, row in report["priorities"].items()}
    assert outcomes == {"HIGH": {"done": 19_366}, "LOW": {"done": 8_819}}
    assert len(list(tmp_path.glob("worker-*.jsonl"))) == 2
    assert (tmp_path / "report.png").stat().st_size > 10_000


def run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """To its end, or to a SIGTERM, on which it stops its workers too."""
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as player:
        try:
            out, err = player.communicate(timeout=500)
        finally:
            player.terminate()
    return player.returncode, out, err


def log_of(folder: Path) -> str:
    log = folder / "workers.log"
    return log.read_text()[-4_000:] if log.exists() else "no workers.log"
