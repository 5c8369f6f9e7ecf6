"""`shifter explain`: the decision on the lanes as they are, rule by rule."""

from __future__ import annotations

import asyncio
import os

from shifter.ports import Record, WorkerReport


def waiting(world, lane: str, count: int, rate_per_s: float) -> None:
    async def fill() -> None:
        world.log.append([Record(lane, b"{}", ())] * count, 10**6)
        report = WorkerReport("w", "h", 1, 0, 0, 0, {}, {lane: rate_per_s})
        await world.presence.report(report, keep_ms=10_000)

    asyncio.run(fill())


def test_every_rule_is_shown_with_the_decision_last(world, shop):
    world.run("topics", "apply", shop)

    ended = world.run("explain", shop, "ping")

    assert ended.code == 0
    assert ended.out.splitlines()[0].split() == ["RULE", "NUMBERS", "SAYS", "DECISIVE"]
    assert "90 of 90 slots free" in ended.out
    assert ended.out.splitlines()[-1] == "run: accepted"


def test_a_lane_that_cannot_finish_in_time_is_said_with_its_numbers(world, shop):
    world.run("topics", "apply", shop)
    waiting(world, "shop.mail.low", 40, rate_per_s=2.0)

    found = world.run(
        *("explain", shop, "send_receipt", "--deadline", "10s", "--key", "k", "--json")
    ).json

    assert list(found) == [
        *(
            "job",
            "lane",
            "is_dark",
            "verdict",
            "reason",
            "eta_s",
            "retry_after_s",
            "rules",
            "hours",
        ),
    ]
    assert (found["verdict"], found["reason"]) == ("shed", "overloaded")
    assert 20.0 <= found["retry_after_s"] < 30.0
    decisive = {row["rule"]: row for row in found["rules"] if row["is_decisive"]}
    assert list(decisive) == ["inline", "lane"]
    assert decisive["lane"]["found"].startswith("40 waiting, 2.0/s")


def test_without_servers_the_other_rules_are_shown(world, shop):
    del os.environ["SHIFTER_STATE"]
    os.environ["SHIFTER_LOG"] = "kafka://nowhere:9092"

    ended = world.run("explain", shop, "ping")

    assert ended.code == 0
    assert "lanes are not known" in ended.err
    assert "not known" in ended.out


def test_an_unknown_job_is_named_with_its_neighbour(world, shop):
    ended = world.run("explain", shop, "pong")

    assert ended.code == 2
    assert "ping" in ended.problem[2]
