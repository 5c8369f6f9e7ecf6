"""A calibration measures each unit cost on real servers, and a plan is made of it."""

from __future__ import annotations

import json
import sys

import pytest

from shifter.cli import main, plan
from shifter.ops import calibration

pytestmark = pytest.mark.redis


def test_a_calibration_is_measured_saved_and_planned_with(
    redis_url, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(calibration, "FEW", 50)
    monkeypatch.setattr(calibration, "MANY", 1_050)
    monkeypatch.setattr(calibration, "_CLAIMS", 500)
    monkeypatch.setattr(calibration, "_SYNCS", 100)
    monkeypatch.setenv("SHIFTER_LOG", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.setenv("SHIFTER_STATE", redis_url)
    monkeypatch.chdir(tmp_path)
    # An app reads its settings once.
    monkeypatch.delitem(sys.modules, "shifter.ops.calibration_app", raising=False)

    used_s = iter([1.0, 1.5])

    async def drained() -> float:
        await drain()
        # What so few jobs use is lost in what the start of a process uses.
        return next(used_s)

    drain = plan._drain
    monkeypatch.setattr(plan, "_drain", drained)

    code = main(["plan", "--calibrate", "--rate", "500", "--json"])

    printed = capfd.readouterr()
    assert code == 0, printed.err
    assert json.loads(printed.out)["check"]["is_held"] is True
    costs = calibration.read_calibration(tmp_path / "calibration.json").unit_costs()
    assert costs.job_cpu_s == 0.5 / 1_000
    assert 50 < costs.record_bytes < 2_000
    assert 20 < costs.claim_bytes < 10_000
    assert all(cost > 0 for cost in costs[:-2])


def test_a_calibration_in_which_nothing_was_measured_is_one_error(
    redis_url, tmp_path, monkeypatch, capfd
):
    async def drained() -> float:
        return 1.0

    for name, value in (("FEW", 10), ("MANY", 20), ("_CLAIMS", 500), ("_SYNCS", 10)):
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setenv("SHIFTER_LOG", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.setenv("SHIFTER_STATE", redis_url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "shifter.ops.calibration_app", raising=False)
    monkeypatch.setattr(plan, "_drain", drained)

    assert main(["plan", "--calibrate"]) != 0
    assert "too busy" in capfd.readouterr().err
    assert not (tmp_path / "calibration.json").exists()
