"""`shifter scale`: the numbers of a fleet, their reasons, and how the command ends."""

from __future__ import annotations

import asyncio
import os

import pytest

from shifter.ports import Record, WorkerReport

LOW = "shop.mail.low"


@pytest.fixture
def busy(world, shop):
    """1,200 jobs wait, and a worker does 20 a second with half of what it has."""
    world.run("topics", "apply", shop)

    async def fill() -> None:
        world.log.append([Record(LOW, b"{}", ())] * 1_200, 10**6)
        report = WorkerReport(
            *("w", "h", 1, 0, 0, 10, {}, {LOW: 20.0}),
            queues=["default", "mail"],
            priorities=["CRITICAL", "HIGH", "LOW", "NORMAL"],
            busy={LOW: 0.5},
        )
        await world.presence.report(report, keep_ms=10**9)

    asyncio.run(fill())
    return world


def test_the_numbers_are_one_object(busy, shop):
    found = busy.run("scale", shop, "--json").json

    [group] = found["groups"]
    assert list(found) == ["as_of_ms", "groups"]
    assert group == {
        "name": "default",
        "current": 1,
        "desired": 1,
        "due_backlog_s": 30.0,
        "reason": "due_backlog",
        "tightest_deadline_s": None,
        "is_measured": True,
    }


def test_the_reasons_are_in_the_same_object(busy, shop):
    [group] = busy.run("scale", shop, "--json", "--explain").json["groups"]

    assert [step["reason"] for step in group["steps"]] == ["due_backlog"]
    lane = next(lane for lane in group["lanes"] if lane["lane"] == LOW)
    assert (lane["records"], lane["cost_s"], lane["work_s"]) == (1_200, 0.025, 30.0)


def test_the_numbers_are_a_table(busy, shop):
    headings, row = busy.run("scale", shop).out.splitlines()

    assert headings.split()[:4] == ["GROUP", "WORKERS", "DESIRED", "REASON"]
    assert row.split() == ["default", "1", "1", "due_backlog", "30.0s", "-"]


def test_each_step_and_each_lane_is_explained(busy, shop):
    out = busy.run("scale", shop, "--explain").out

    assert "group default:" in out
    assert "30 s of work within 30 s: 1 workers" in out
    assert LOW in out
    assert "25 ms" in out
    assert "shop.default.high" not in out


def test_settings_bound_the_numbers(busy, shop, monkeypatch):
    monkeypatch.setenv("SHIFTER_SCALE_FLOOR", "3")

    [group] = busy.run("scale", shop, "--json").json["groups"]

    assert (group["desired"], group["reason"]) == (3, "floor")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TARGET", "0s", "allowed: 1s to 7d"),
        ("FLOOR", "200", "must not be above scale_ceiling (100)"),
        ("CEILING", "0", "allowed: 1 to 100000"),
        ("FALLBACK", "guess", "allowed: "),
    ],
)
def test_a_wrong_setting_is_one_error(busy, shop, monkeypatch, name, value, words):
    monkeypatch.setenv(f"SHIFTER_SCALE_{name}", value)

    ended = busy.run("scale", shop)

    assert ended.code == 78
    assert words in ended.problem[2]


def test_without_a_state_store_there_is_no_number(world, shop):
    del os.environ["SHIFTER_STATE"]

    ended = world.run("scale", shop)

    assert ended.code == 78
    assert ended.problem[0] == "no state is configured"


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999", "127.0.0.1:"])
def test_a_wrong_address_of_the_scaler_is_one_error(world, shop, address):
    ended = world.run("scaler", shop, "--listen", address)

    assert ended.code == 2
    assert ended.problem[2] == "use HOST:PORT, such as 127.0.0.1:9090"
