"""`shifter lane peek`, and the delay tiers of `shifter status`."""

from __future__ import annotations

import asyncio

import pytest

from shifter.adapters.memory.log import MemoryLaneFeed
from shifter.ports import LanePeek, Record

HOSTILE = Record("shop.mail.low", b"\xff\x00", [("shifter", b"{")], b"k\x1b[2J")


@pytest.fixture
def filled(world, shop):
    """Three jobs wait on mail/low, one of them not readable; one is delayed."""
    world.run("topics", "apply", shop)
    send = ("submit", shop, "send_receipt", "--json")
    for number in (1, 2):
        world.run(*send, f'{{"order_id": {number}, "email": "a@b"}}')
    world.log.append([HOSTILE], 10**6)
    world.run(*send, '{"order_id": 3}', "--delay=29d", "--key=k")
    return world


def test_waiting_and_delayed_jobs_are_shown_whole_as_json(filled):
    rows = filled.run("lane", "peek", "mail/low", "--json").json

    assert [row["state"] for row in rows] == ["waiting"] * 3 + ["delayed"]
    assert [row["payload"] for row in rows] == [
        {"order_id": 1, "email": "a@b"},
        {"order_id": 2, "email": "a@b"},
        "ff00",
        {"order_id": 3},
    ]
    assert list(rows[0]) == [
        *("state", "job_id", "job", "attempt", "appended_ms", "due_ms", "deadline_ms"),
        *("key", "partition", "offset", "size_bytes", "payload_encoding", "payload"),
    ]
    assert (rows[2]["job"], rows[2]["payload_encoding"]) == (None, "hex")
    assert (rows[3]["job"], rows[3]["key"]) == ("send_receipt", "k")
    assert rows[3]["due_ms"] == filled.log.next_due_ms()


def test_a_peek_takes_nothing_and_joins_no_group(filled):
    before = filled.run("status", "--json").json["lanes"]

    for _ in range(3):
        filled.run("lane", "peek", "mail/low")

    assert filled.run("status", "--json").json["lanes"] == before
    # Who joins now gets all of them.
    feed = MemoryLaneFeed(filled.log, ["shop.mail.low"])
    asyncio.run(feed.open())
    assert len(asyncio.run(feed.fetch(10, wait_s=0))) == 3


def test_a_table_shows_no_escape_of_a_terminal(filled):
    out = filled.run("lane", "peek", "shop.mail.low").out

    assert "send_receipt" in out
    assert "k\\x1b[2J" in out
    assert out.replace("\n", "").isprintable()


def test_a_limit_counts_for_waiting_and_for_delayed_jobs(filled):
    rows = filled.run("lane", "peek", "MAIL/LOW", "--limit", "1", "--json").json

    assert [row["state"] for row in rows] == ["waiting", "delayed"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1"])
def test_a_limit_out_of_bounds_is_a_usage_error(filled, limit):
    assert filled.run("lane", "peek", "mail/low", f"--limit={limit}").code == 2


def test_an_unknown_lane_is_one_error_that_lists_the_lanes(filled):
    ended = filled.run("lane", "peek", "male/low")

    what, _, fix = ended.problem
    assert (ended.code, what) == (1, "there is no lane 'male/low'")
    assert "mail/low" in fix
    assert "default/normal" in fix


def test_the_status_counts_delayed_jobs_by_tier(filled):
    filled.clock.advance(86_400)
    found = filled.run("status", "--json").json["delay_tiers"]
    text = filled.run("status").out

    left_s = (filled.log.next_due_ms() - filled.clock.epoch_ms()) / 1_000
    assert found == [{"tier_s": None, "delayed": 1, "next_due_s": left_s}]
    assert "DELAY TIER" in text
    assert "file" in text


def test_a_look_that_is_cut_off_warns(filled, monkeypatch):
    async def peek(topic, most):
        return LanePeek([], [], is_complete=False)

    monkeypatch.setattr(filled.admin, "peek", peek)

    ended = filled.run("lane", "peek", "mail/low")

    assert ended.code == 0
    assert "these may not be the first" in ended.err
