"""`shifter window`: hours set by hand, for a while, with a reason."""

from __future__ import annotations

import pytest

HOURS = """
from __future__ import annotations
from shifter import Priority, Shifter, Window

app = Shifter("shop")
app.lane("mail", priority=Priority.LOW, window=Window("22:00-06:00"))

@app.job(queue="mail", priority=Priority.LOW, window=Window("05:00-08:00"))
async def digest() -> None: ...
"""


@pytest.fixture
def hours(tmp_path):
    (tmp_path / "shop_hours.py").write_text(HOURS)
    return "shop_hours:app"


def opened(world, *scope, verb="open-now", **more):
    options = [f"--{name}={text}" for name, text in more.items()]
    return world.run("window", verb, *scope, "--reason", "a big order", *options)


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        (("mail",), "queue/mail"),
        (("mail", "--priority", "low"), "lane/mail/low"),
        (("--job", "digest"), "job/digest"),
    ],
)
def test_an_override_is_listed_with_owner_reason_and_end(world, scope, named):
    ended = opened(world, *scope, **{"for": "2h"})

    [row] = world.run("window", "list", "--json").json
    assert (ended.code, ended.out) == (0, "")
    assert "open for 2h" in ended.err
    assert (row["scope"], row["is_open"]) == (named, True)
    assert row["by_hand"]["reason"] == "a big order"
    assert row["by_hand"]["owner"]
    assert 7_190 < row["by_hand"]["left_s"] <= 7_200


def test_the_last_word_holds_until_it_ends(world):
    opened(world, "mail")
    opened(world, "mail", verb="close-now", **{"for": "10m"})

    [row] = world.run("window", "list", "--json").json
    world.clock.advance(601)
    later = world.run("window", "list", "--json").json

    assert (row["is_open"], later) == (False, [])


def test_auto_lets_windows_count_again(world):
    opened(world, "mail")

    ended = world.run("window", "auto", "mail")

    assert (ended.code, world.run("window", "list", "--json").json) == (0, [])


def test_with_an_app_its_own_windows_are_listed_too(world, hours):
    rows = world.run("window", "list", hours, "--json").json

    shown = {row["scope"]: row["windows"] for row in rows}
    assert shown == {
        "job/digest": ["05:00-08:00 daily UTC"],
        "lane/mail/low": ["22:00-06:00 daily UTC"],
    }
    assert world.run("window", "list", hours).out.splitlines()[0].startswith("HOURS OF")


def test_status_shows_them(world, shop):
    world.run("topics", "apply", shop)
    opened(world, "mail", verb="close-now")

    [row] = world.run("status", "--json").json["windows"]

    assert (row["scope"], row["by_hand"]["to"]) == ("queue/mail", "closed")
    assert "a big order" in world.run("status").out


def test_explain_shows_them(world, hours):
    opened(world, "mail", verb="close-now")

    found = world.run("explain", hours, "digest", "--json").json

    assert found["reason"] == "window_closed"
    assert "window of the job: 05:00-08:00 daily UTC" in found["hours"]
    assert "window of its lane: 22:00-06:00 daily UTC" in found["hours"]
    assert any("queue/mail is closed" in line for line in found["hours"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("window", "open-now", "--reason", "x"), "window"),
        (("window", "open-now", "mail", "--job", "x", "--reason", "x"), "'mail'"),
        (("window", "open-now", "Mail!", "--reason", "x"), "'Mail!'"),
        (
            ("window", "open-now", "mail", "--reason", "x", "--for", "1 fortnight"),
            "--for",
        ),
        (("window", "close-now", "mail"), "reason"),
    ],
    ids=str,
)
def test_what_cannot_be_set_is_refused_in_three_lines(world, arguments, said):
    ended = world.run(*arguments)

    assert ended.code in (2, 78)
    assert said in ended.problem[0] + ended.problem[1]
