"""`shifter plan`: one object, one table, and one clear error for each wrong input."""

from __future__ import annotations

import sys

import msgspec
import pytest

from shifter.cli.problem import Exit
from shifter.ops.calibration import Calibration, read_calibration, write_calibration
from tests.unit.policy.planning.plans import COSTS


@pytest.fixture
def saved(tmp_path):
    """A calibration in the current directory, where the command looks for it."""
    made = Calibration(1, 1_700_000_000_000, COSTS._asdict())
    write_calibration(tmp_path / "calibration.json", made)
    return tmp_path


def test_a_plan_is_one_object_of_the_published_shape(world, saved):
    found = world.run("plan", "--rate", "1000", "--json").json

    assert list(found) == [
        *("mean_per_s", "peak_per_s", "jobs", "longest_gap_s", "share", "wait_s"),
        *("needs", "check", "growth", "limits", "most_processes", "costs"),
    ]
    assert list(found["needs"][0]) == ["name", "value", "unit", "margin", "formula"]
    assert list(found["check"]) == [
        *("per_s", "workers", "partitions_a_lane", "redis_servers", "brokers"),
        *("is_held", "share_in_time", "longest_wait_s", "slots_used", "redis_used"),
        *("network_used", "sync_used", "sync_p99_ms"),
    ]
    assert [grown["per_s"] for grown in found["growth"]] == [1e4, 1e5, 1e6]
    assert list(found["limits"][0]) == ["resource", "per_s", "workers", "then"]
    assert found["check"]["is_held"] is True
    # An empty payload is 300 bytes in COSTS, and a payload has 100 by default.
    assert found["costs"]["record_bytes"] == 400


def test_a_plan_is_three_tables(world, saved):
    out = world.run("plan", "--rate", "1000", "--slo", "99.9%/2s").out

    assert "workers" in out
    assert "partitions_a_lane" in out
    assert "held" in out
    assert "largest fleet of one Redis core" in out


def test_a_file_of_arrivals_is_planned_for(world, saved):
    (saved / "day.csv").write_text("at_s\n" + "\n".join(map(str, range(100))))
    found = world.run("plan", "--arrivals", "day.csv", "--json").json

    assert (found["jobs"], found["longest_gap_s"]) == (100, 1.0)
    assert found["check"]["is_held"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "neither --rate nor --arrivals"),
        (["--rate", "5", "--arrivals", "day.csv"], "both say"),
        (["--rate", "0"], "more than 0"),
        (["--rate", "-3"], "more than 0"),
        (["--rate", "5", "--slo", "0s"], "--slo"),
        (["--rate", "5", "--slo", "100%/5s"], "0 < PART < 100"),
        (["--rate", "5", "--slo", "soon/5s"], "PART%/WAIT"),
        (["--rate", "5", "--concurrency", "0"], "--concurrency"),
        (["--rate", "5", "--cpu-time", "1s"], "a part of --service-time"),
        (["--rate", "5", "--broker-disk", "0"], "--broker-disk"),
        (["--rate", "5", "--keep", "0s"], "--keep"),
        (["--arrivals", "none.csv"], "none.csv"),
        (["--arrivals", "unsorted.csv"], "sort the file"),
        (["--arrivals", "bytes.csv"], "no text"),
        (["--rate", "5", "--calibration", "none.json"], "--calibrate"),
        (["--rate", "5", "--calibration", "unsorted.csv"], "--calibrate"),
    ],
)
def test_a_wrong_input_is_one_error_of_three_lines(world, saved, arguments, says):
    (saved / "unsorted.csv").write_text("3\n1\n")
    (saved / "bytes.csv").write_bytes(b"1\n\xff\xfe\n")
    ended = world.run("plan", *arguments)

    assert ended.code == Exit.USAGE
    assert says in ended.err
    assert len(ended.err.splitlines()) == 3
    assert ended.out == ""


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"costs": {**COSTS._asdict(), "job_cpu_s": -1.0}},
        {"costs": {"job_cpu_s": 1.0}},
    ],
)
def test_a_damaged_calibration_is_one_error(world, saved, damage):
    file = saved / "calibration.json"
    whole = msgspec.to_builtins(read_calibration(file))
    file.write_bytes(msgspec.json.encode(whole | damage))
    ended = world.run("plan", "--rate", "5")

    assert ended.code in (Exit.USAGE, Exit.CONFIG)
    assert len(ended.err.splitlines()) == 3


def test_a_calibration_needs_one_redis_server(world, saved, monkeypatch):
    monkeypatch.setenv("SHIFTER_STATE", "redis+cluster://127.0.0.1:7000")
    # An app reads its settings once.
    monkeypatch.delitem(sys.modules, "shifter.ops.calibration_app", raising=False)
    ended = world.run("plan", "--calibrate")

    assert ended.code == Exit.CONFIG
    assert "one Redis server" in ended.err
