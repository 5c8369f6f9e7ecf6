from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.model.lane import (
    Lane,
    Priority,
    check_name,
    dead_letter_topic,
    delay_topic,
    parse_lane,
)


def test_topics_are_named_as_designed():
    assert Lane("shop", "mail", Priority.LOW).name == "shop.mail.low"
    assert dead_letter_topic("shop", "mail") == "shop.mail.dlt"
    assert delay_topic("shop", 16_384) == "shop.delay.16384s"


@pytest.mark.parametrize("priority", list(Priority))
def test_a_lane_is_read_back_from_its_topic(priority):
    lane = Lane("shop", "mail", priority)

    assert parse_lane(lane.name) == lane


@pytest.mark.parametrize(
    "topic",
    [
        "",
        ".",
        "..",
        "shop",
        "shop.mail",
        "shop.mail.dlt",
        "shop.delay.16s",
        "shop.delay.low",
        "shop.mail.low.extra",
        "shop.mail.LOW",
        "shop.mail.medium",
        "shop.mail.low\n",
        ".mail.low",
        "shop..low",
        "..low",
        "Shop.mail.low",
        "shop.my_mail.low",
        "orders.__consumer_offsets.low",
        "shop.mail.cr\N{LATIN SMALL LETTER DOTLESS I}tical",
    ],
)
def test_other_topics_are_no_lanes(topic):
    assert parse_lane(topic) is None


@pytest.mark.parametrize("name", ["a", "0", "mail", "a-b", "a--b", "x" * 64])
@pytest.mark.parametrize("field", ["queue", "namespace"])
def test_good_names_are_returned_as_they_are(field, name):
    assert check_name(field, name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "x" * 65,
        "x" * 250,
        "a b",
        " a",
        "a/b",
        "../a",
        "\N{LATIN SMALL LETTER U WITH DIAERESIS}",
        "\N{ARABIC-INDIC DIGIT THREE}",
        "a.b",
        "a_b",
        "Mail",
        "-a",
        "a-",
        "a\n",
        "a\x00",
        None,
        5,
        b"mail",
        ["mail"],
    ],
)
@pytest.mark.parametrize("field", ["queue", "namespace"])
def test_bad_names_are_refused_with_the_rule(field, name):
    with pytest.raises(ConfigError, match="use 1-64 lower-case letters") as caught:
        check_name(field, name)

    assert (caught.value.field, caught.value.value) == (field, name)


def test_no_queue_is_called_like_the_delay_tiers():
    assert check_name("namespace", "delay") == "delay"
    with pytest.raises(ConfigError, match="reserved for delay topics"):
        check_name("queue", "delay")
