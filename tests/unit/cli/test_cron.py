"""`shifter cron`: what it shows, what it says, and what it keeps."""

from __future__ import annotations

import asyncio

import pytest

from shifter.errors import StoreUnavailableError
from shifter.fleet.cron_state import pause_cell, read_pause
from shifter.fleet.view import cells_of
from shifter.model.lane import events_topic
from shifter.ports import TopicSpec, WorkerReport
from shifter.wire.job_event import decode_events

CRONS = {"digest": "0 3 * * *", "h\x1b[2J": "*/5 * * * *"}
REPORT = WorkerReport(*("w1", "h", 7, 1, 2, 100, {}, {}), crons=CRONS)


@pytest.fixture
def alive(world):
    """One worker with two cron jobs lives, and the topic of events is there."""
    asyncio.run(world.admin.apply([TopicSpec(events_topic("shop"), 1, 10**9, 10**6)]))
    asyncio.run(world.presence.report(REPORT, keep_ms=10**9))
    return world


def pause(world):
    cells, now_ms = asyncio.run(cells_of(world.fleet, "test"))
    return read_pause(cells.get(pause_cell("digest"), b""), now_ms)


async def actions(world):
    found = []
    async for batch in world.admin.scan(events_topic("shop")):
        found += [one for each in batch for one in decode_events(each.value).events]
    return [(one.action, one.reason) for one in found]


def test_the_list_shows_each_cron_job_and_no_escape_of_a_terminal(alive):
    rows = alive.run("cron", "list", "--json").json
    text = alive.run("cron", "list").out

    assert [row["name"] for row in rows] == ["digest", "h\x1b[2J"]
    assert list(rows[0]) == [
        *("name", "schedule", "tz", "workers", "next_ms", "last_ms", "last_job_id"),
        *("last_by", "outcome", "paused"),
    ]
    assert (rows[0]["tz"], rows[0]["workers"], rows[0]["last_ms"]) == ("UTC", 1, None)
    assert "digest" in text
    assert "h\\x1b[2J" in text
    assert text.replace("\n", "").isprintable()


def test_an_app_shows_its_cron_jobs_without_a_worker(world, module):
    name = module(
        "from shifter import Shifter\napp = Shifter('shop')\n"
        "@app.job(cron='0 4 * * *')\nasync def tidy() -> None: ...\n"
    )

    [row] = world.run("cron", "list", f"{name}:app", "--json").json

    facts = (row["name"], row["schedule"], row["workers"], row["next_ms"])
    assert facts == ("tidy", "0 4 * * *", 0, None)


def test_without_cron_jobs_the_list_says_so(world):
    ended = world.run("cron", "list")

    assert (ended.code, ended.out) == (0, "")
    assert "no live worker has a cron job" in ended.err


def test_a_pause_is_told_and_kept_and_ended(alive):
    paused = alive.run("cron", "pause", "digest", "--reason", "a drill", "--for", "3d")
    held = pause(alive)
    shown = alive.run("cron", "list").out
    resumed = alive.run("cron", "resume", "digest")

    assert "digest: paused for 3d, by" in paused.err
    assert held.reason == "a drill"
    assert "a drill" in shown
    assert resumed.err == "digest: fires by its schedule\n"
    assert pause(alive) is None
    assert asyncio.run(actions(alive)) == [
        ("cron pause digest for 3d", "a drill"),
        ("cron resume digest", ""),
    ]


@pytest.mark.parametrize("verb", ["run", "pause", "resume"])
def test_an_unknown_cron_job_is_one_error_that_lists_what_there_is(alive, verb):
    more = ("--reason", "a drill") if verb == "pause" else ()

    what, _, fix = alive.run("cron", verb, "dijest", *more).problem

    assert what == "there is no cron job 'dijest'"
    assert "digest, h\\x1b[2J" in fix


def test_while_the_state_store_is_away_the_command_says_so(alive, monkeypatch):
    async def sync(report):
        raise StoreUnavailableError("redis", "fleet.sync", "gone")

    monkeypatch.setattr(alive.fleet, "sync", sync)

    for verb in ("list", "resume digest", "run digest"):
        ended = alive.run("cron", *verb.split())
        assert ended.code == 69
        assert ended.problem[1] == "gone"
    assert asyncio.run(actions(alive)) == []


def test_a_pause_without_a_time_lasts_a_day(alive):
    alive.run("cron", "pause", "digest", "--reason", "a drill")

    _, now_ms = asyncio.run(cells_of(alive.fleet, "test"))
    assert pause(alive).until_ms - now_ms == 86_400_000


def test_a_run_that_no_worker_takes_ends_with_75(alive, monkeypatch):
    class Fast:
        """A clock whose sleep takes no time."""

        def __init__(self) -> None:
            self.now = 0.0

        def monotonic(self) -> float:
            return self.now

        async def sleep(self, seconds: float) -> None:
            self.now += seconds

    monkeypatch.setattr("shifter.cli.cron.SystemClock", Fast)

    ended = alive.run("cron", "run", "digest")

    assert ended.code == 75
    assert ended.problem[0] == "no worker took a run of digest"
    assert asyncio.run(actions(alive)) == []
