"""`shifter job show` and `job list` over a topic of events in memory."""

from __future__ import annotations

import asyncio
import functools
import re

import pytest

from shifter import wiring
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.api.load import load_app
from shifter.cli import job_history
from shifter.errors import StoreUnavailableError
from shifter.model.advice import FAIL, WARN
from shifter.ops.doctor import check_topics
from shifter.ops.event_scan import ScanLimit
from shifter.ports import Record, TopicSpec
from shifter.wire.job_event import EventKind, JobEvent, encode_events

TOPIC = "shop.events"
ID = "0192f3c4-aaaa-7000-8000-000000000001"
HOSTILE = "\x1b[2J\u202e\x00<script>" + "A" * 100_000


@pytest.fixture
def recorded(world):
    """Put events into the topic."""
    world.log.create(TopicSpec(TOPIC, 1, 86_400_000, 10_000_000))

    def put(*events: JobEvent) -> None:
        log = MemoryLaneLog(world.log, max_record_bytes=10_000_000)
        for value, _ in encode_events("host-1", events):
            log.append_sync([Record(TOPIC, value, [])], timeout_s=30)

    return put


def dead(world, **facts) -> JobEvent:
    now = world.clock.epoch_ms()
    facts = {"job": "send", "queue": "mail", "message": "no", **facts}
    return JobEvent(
        at_ms=now,
        event=EventKind.DEAD_LETTERED.value,
        id=ID,
        attempt=1,
        created_ms=now - 50,
        started_ms=now - 5,
        error="OSError",
        **facts,
    )


def test_a_job_whose_state_is_forgotten_has_the_state_of_its_last_event(
    world, recorded
):
    recorded(dead(world))

    found = world.run("job", "show", ID, "--json").json

    assert (found["state"], found["attempt"], found["owner"]) == ("dead", 1, None)
    assert found["updated_ms"] == world.clock.epoch_ms()
    assert [entry["event"] for entry in found["story"]] == [
        *("submitted", "started", "failed", "dead_lettered")
    ]
    assert found["story_is_complete"] is True


def test_hostile_texts_reach_no_terminal(world, recorded):
    recorded(dead(world, message=HOSTILE, detail=HOSTILE, queue=HOSTILE))

    for command in (("job", "show", ID), ("job", "list", "--since", "366d")):
        for options in ((), ("--json",)):
            ended = world.run(*command, *options)
            assert ended.code == 0
            assert ended.out
            assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", ended.out) is None
            assert len(ended.out) < 20_000


def test_a_log_that_is_away_leaves_the_state(world, monkeypatch):
    def away(_):
        raise StoreUnavailableError("kafka", "connect", "nobody answers")

    monkeypatch.setattr(wiring, "open_admin", away)
    world.run("job", "cancel", ID)

    ended = world.run("job", "show", ID, "--json")

    assert (ended.code, ended.json["state"], ended.json["story"]) == (
        *(0, "cancelled", []),
    )
    assert "the history of the job is not known" in ended.err


def test_a_history_that_is_cut_says_so(world, recorded, monkeypatch):
    for _ in range(5):
        recorded(dead(world))
    limited = ScanLimit(records=2)

    reader = functools.partial(job_history.JobReader, limit=limited)
    monkeypatch.setattr(job_history, "JobReader", reader)

    ended = world.run("job", "show", ID, "--json")
    shown = world.run("job", "show", ID)

    assert ended.json["story_is_complete"] is False
    assert "only the newest 2 of 5 records of events were looked at" in shown.err


def test_a_place_in_a_list_that_is_none_is_refused(world, recorded):
    for place in ("", "1", f"x:{ID}", "1:x", f"-1:{ID}"):
        ended = world.run("job", "list", "--after", place)
        assert (ended.code, "--after" in ended.err) == (2, True)

    recorded(dead(world))
    listing = ("job", "list", "--since", "366d", "--json")
    [first] = world.run(*listing).json
    at_ms = first["at_ms"]
    assert world.run(*listing, "--after", f"{at_ms}:{ID}").json == []
    assert world.run(*listing, "--after", f"{at_ms + 1}:{ID}").json == [first]


def test_the_topic_of_events_is_made_with_the_others_and_its_lack_is_a_warning(
    world, shop
):
    world.run("topics", "apply", shop)
    assert world.log.specs()[TOPIC].retention_ms == 86_400_000
    del world.log._specs[TOPIC], world.log._parts[TOPIC]

    app = load_app(shop)
    [finding] = asyncio.run(check_topics(app, shop))

    assert (finding.status, TOPIC in finding.detail) == (WARN, True)
    del world.log._specs["shop.mail.low"], world.log._parts["shop.mail.low"]
    found = asyncio.run(check_topics(app, shop))
    assert {each.status for each in found} == {WARN, FAIL}
