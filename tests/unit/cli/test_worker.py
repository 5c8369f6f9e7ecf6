"""`shifter worker`, and what `shifter status` shows of workers."""

from __future__ import annotations

import asyncio

import pytest

from shifter.errors import StoreUnavailableError
from shifter.fleet.drain_order import drain_cell
from shifter.fleet.shared_state import read_setting
from shifter.fleet.view import cells_of
from shifter.model.lane import events_topic
from shifter.ports import SlowestJob, TopicSpec, WorkerReport
from shifter.wire.job_event import decode_events

REPORT = WorkerReport(
    *("web1-7-ab", "web1", 7, 1, 2, 100, {"shop.mail.low": 2}, {}),
    version="0.5.0",
    app_version="2026.11.3",
    slowest=SlowestJob("j1", "send_receipt", 61.0),
    progress_ms=1,
)
DRAIN = ("worker", "drain", "web1-7-ab", "--reason", "a drill")


@pytest.fixture
def alive(world):
    """One worker lives, and the topic of events is there."""
    asyncio.run(world.admin.apply([TopicSpec(events_topic("shop"), 1, 10**9, 10**6)]))
    asyncio.run(world.presence.report(REPORT, keep_ms=10**9))
    return world


def order(world):
    cells, _ = asyncio.run(cells_of(world.fleet, "test"))
    return read_setting(cells.get(drain_cell("web1-7-ab"), b""))


async def actions(world):
    found = []
    async for batch in world.admin.scan(events_topic("shop")):
        found += [one for each in batch for one in decode_events(each.value).events]
    return found


def test_the_status_has_the_fields_of_a_worker(alive):
    [worker] = alive.run("status", "--json").json["workers"]
    text = alive.run("status").out

    assert (worker["version"], worker["app_version"]) == ("0.5.0", "2026.11.3")
    assert (worker["progress_ms"], worker["is_draining"]) == (1, False)
    assert worker["slowest"] == {
        "job_id": "j1",
        "type": "send_receipt",
        "running_s": 61.0,
    }
    assert "send_receipt for 1m1s, j1" in text
    assert "0.5.0, app 2026.11.3" in text


def test_an_order_to_drain_is_told_and_kept(alive):
    ended = alive.run(*DRAIN)

    assert ended.code == 0
    assert "web1-7-ab: drains, by" in ended.err
    assert order(alive).reason == "a drill"


def test_a_drain_is_recorded_in_the_stream_of_events(alive):
    alive.run(*DRAIN)

    [event] = asyncio.run(actions(alive))
    assert (event.action, event.reason) == ("worker drain web1-7-ab", "a drill")
    assert event.by == order(alive).owner


def test_an_unknown_worker_is_one_error_that_lists_those_that_live(alive):
    ended = alive.run("worker", "drain", "web2", "--reason", "a drill")

    what, _, fix = ended.problem
    assert (ended.code, what) == (1, "there is no worker 'web2'")
    assert fix == "live workers: web1-7-ab"
    assert order(alive) is None


def test_an_order_without_a_reason_is_a_usage_error(alive):
    assert alive.run("worker", "drain", "web1-7-ab").code == 2
    assert order(alive) is None


def test_without_the_state_store_nothing_is_ordered(alive, monkeypatch):
    async def sync(report):
        raise StoreUnavailableError("redis", "fleet.sync", "gone")

    monkeypatch.setattr(alive.fleet, "sync", sync)

    ended = alive.run(*DRAIN)

    assert ended.code == 69
    assert ended.problem[0] == "redis did not answer fleet.sync"
    assert asyncio.run(actions(alive)) == []
