"""Names of topics: no two things share one, and every lane is found again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from shifter.errors import ConfigError
from shifter.model.lane import (
    Lane,
    Priority,
    check_name,
    dead_letter_topic,
    delay_topic,
    parse_lane,
)
from shifter.policy.delivery.delay import TIERS_S

names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?\Z") | st.sampled_from(
    ["dlt", "low", "critical", "1s", "16s", "a", "a-b", "a" * 64]
)
queues = names.filter(lambda name: name != "delay")
lanes = st.builds(Lane, names, queues, st.sampled_from(list(Priority)))
things = st.one_of(
    lanes,
    st.tuples(st.just("dead letters"), names, queues),
    st.tuples(st.just("delay"), names, st.sampled_from(TIERS_S)),
)


def topic_of(thing) -> str:
    match thing:
        case Lane():
            return thing.name
        case ("dead letters", namespace, queue):
            return dead_letter_topic(namespace, queue)
        case (_, namespace, tier_s):
            return delay_topic(namespace, tier_s)


@given(things, things)
def test_two_different_things_never_share_a_topic(one, other):
    assert (topic_of(one) == topic_of(other)) == (one == other)


@given(things, things)
def test_nor_do_they_share_a_metric_where_dots_become_underscores(one, other):
    folded, other_folded = (topic_of(t).replace(".", "_") for t in (one, other))

    assert (folded == other_folded) == (one == other)


@given(things)
def test_every_topic_is_a_name_kafka_takes(thing):
    assert re.fullmatch(r"[a-z0-9.-]{3,249}", topic_of(thing))


@given(lanes)
def test_a_lane_is_found_again_from_its_topic(lane):
    assert parse_lane(lane.name) == lane


@given(things.filter(lambda thing: not isinstance(thing, Lane)))
def test_other_topics_of_ours_are_no_lanes(thing):
    assert parse_lane(topic_of(thing)) is None


@given(
    st.text(max_size=20)
    | st.from_regex(r"\A\w{0,3}[.]\w{0,3}[.](low|LOW|cr\u0131tical|dlt|\d+s)\n?\Z")
)
def test_a_name_is_read_as_a_lane_only_if_that_lane_has_it(topic):
    lane = parse_lane(topic)

    if lane is not None:
        assert lane.name == topic
        assert check_name("namespace", lane.namespace)
        assert check_name("queue", lane.queue)


@given(st.text(max_size=70) | names)
def test_a_name_is_returned_as_it_is_or_refused(text):
    fits = re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", text)

    if fits and text != "delay":
        assert check_name("queue", text) == text
    else:
        with pytest.raises(ConfigError, match="queue is"):
            check_name("queue", text)
