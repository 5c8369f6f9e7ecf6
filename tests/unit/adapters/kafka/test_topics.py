from __future__ import annotations

import pytest

from shifter.adapters.kafka.topics import TopicState, settings, steps
from shifter.ports import TopicSpec

SPEC = TopicSpec("shop.mail.low", 6, 1_000_000, 2_000_000)


def state(**changes):
    config = settings(SPEC, replicas=3)
    config |= changes.pop("config", {})
    return TopicState(**{"partitions": 6, "replicas": 3, "config": config, **changes})


def actions(found, *, spec=SPEC, replicas=3):
    planned = steps(spec, found, replicas=replicas)
    return [(step.change.action, step.change.detail) for step in planned]


def test_a_topic_that_fits_needs_nothing():
    assert actions(state()) == []


def test_a_missing_topic_is_created():
    assert actions(None) == [("create", "6 partitions, 3 replicas")]


def test_partitions_are_added():
    assert actions(state(partitions=2)) == [("add_partitions", "partitions: 2 to 6")]


def test_more_partitions_than_asked_need_a_person():
    assert actions(state(partitions=9)) == [("warn", "partitions: 9 to 6")]


def test_too_few_replicas_need_a_person():
    [(action, detail)] = actions(state(replicas=1, config={"min.insync.replicas": "1"}))

    assert action == "warn"
    assert "replicas: 1" in detail


def test_one_broker_has_no_more_than_one_replica():
    found = state(replicas=1, config={"min.insync.replicas": "1"})

    assert actions(found, replicas=1) == []


@pytest.mark.parametrize(
    ("name", "have", "want"),
    [
        ("cleanup.policy", "compact,delete", "delete"),
        ("cleanup.policy", "compact", "delete"),
        ("retention.bytes", "1000000", "-1"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("unclean.leader.election.enable", "true", "false"),
    ],
)
def test_what_would_delete_accepted_jobs_is_set_right(name, have, want):
    [step] = steps(SPEC, state(config={name: have}), replicas=3)

    assert step.change.action == "set"
    assert step.setting == (name, want)


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("retention.ms", "999999"),
        ("max.message.bytes", "1048588"),
        ("min.insync.replicas", "1"),
    ],
)
def test_a_setting_that_is_too_low_is_raised(name, low):
    [step] = steps(SPEC, state(config={name: low}), replicas=3)

    least = settings(SPEC, replicas=3)[name]
    assert step.setting == (name, least)
    assert step.change.detail == f"{name}: {low} to {least}"


@pytest.mark.parametrize("have", ["-1", "1000000", "99999999999"])
def test_a_longer_retention_is_kept(have):
    assert actions(state(config={"retention.ms": have})) == []


def test_unknown_settings_are_left_alone():
    assert actions(state(config={}, partitions=6)._replace(config={})) == []


def test_a_topic_takes_any_batch_a_producer_fills():
    small = settings(SPEC._replace(max_record_bytes=1_000), replicas=1)
    large = settings(SPEC._replace(max_record_bytes=5_000_000), replicas=1)

    assert int(small["max.message.bytes"]) == 1_048_588
    assert int(large["max.message.bytes"]) > 5_000_000


@pytest.mark.parametrize(("replicas", "least"), [(1, "1"), (2, "1"), (3, "2")])
def test_two_in_sync_replicas_are_asked_for_where_there_are_three(replicas, least):
    assert settings(SPEC, replicas=replicas)["min.insync.replicas"] == least


def test_topic_that_is_kept_for_a_day_has_segments_that_end_within_it():
    day = settings(TopicSpec("shop.events", 1, 86_400_000, 1_000_000), replicas=1)
    month = settings(TopicSpec("shop.mail.low", 1, 37 * 86_400_000, 1_000), replicas=1)

    assert (day["retention.ms"], day["segment.ms"]) == ("86400000", "3600000")
    assert "segment.ms" not in month
