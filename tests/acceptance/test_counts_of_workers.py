"""What a worker's page of metrics counts is what happened, to the last one (C20).

The histories are the effects of the handlers, and on Kafka the broker's own topic of
committed offsets.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import urllib.request

import pytest
from confluent_kafka import Consumer, TopicPartition

from stack.process import free_port
from tests.acceptance import counted_jobs

TARGET = "tests.acceptance.counted_jobs:app"
FAILED = 3
WELL = 6


class Page:
    """The numbers of a worker's ``/metrics``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the series of a name that have these labels."""
        url = f"http://127.0.0.1:{self.port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=30) as got:
                text = got.read().decode()
        except OSError:
            return -1.0
        found = 0.0
        for shown, value in re.findall(
            rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE
        ):
            has = dict(re.findall(r'(\w+)="([^"]*)"', shown))
            if labels.items() <= has.items():
                found += float(value)
        return found


def commits_of(fleet) -> int:
    """Commits that the broker has of the workers of this namespace, each counted once.

    Records of one commit follow each other, and have one time.
    """
    servers = fleet.environment["SHIFTER_LOG"].removeprefix("kafka://").rstrip("/")
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        known = consumer.list_topics("__consumer_offsets", timeout=30)
        parts = known.topics["__consumer_offsets"].partitions
        consumer.assign([TopicPartition("__consumer_offsets", p, 0) for p in parts])
        times, ended = set(), 0
        while ended < len(parts):
            message = consumer.poll(30)
            assert message is not None, "the broker does not answer"
            if message.error():
                ended += 1
            elif message.value() is not None:
                times |= _commit(message.key(), message.value(), fleet.namespace)
        return len(times)
    finally:
        consumer.close()


def _commit(key: bytes, value: bytes, namespace: str) -> set[tuple[str, int]]:
    """Group and time of a committed offset; nothing for other records and groups.

    Key: version, group, topic, partition. Value: version, offset, epoch, text, time.
    From version 4 on the length of the text is a varint, and 1 more than it is.
    """
    version, length = struct.unpack_from(">hh", key)
    group = key[4 : 4 + length].decode()
    if version > 1 or not group.startswith(f"{namespace}.workers."):
        return set()
    [version] = struct.unpack_from(">h", value)
    if version < 4:
        [length] = struct.unpack_from(">h", value, 14)
        at = 16
    else:
        length, at = value[14] & 0x7F, 15
        if value[14] & 0x80:
            length, at = length | value[15] << 7, 16
        length -= 1
    [time_ms] = struct.unpack_from(">q", value, at + length)
    return {(group, time_ms)}


@pytest.fixture
def counted(fleet, monkeypatch):
    """A fleet with the topics of the app, and the page of the worker that it starts."""
    monkeypatch.setenv("EFFECTS", fleet.environment["EFFECTS"])
    fleet.run("topics", "apply", TARGET)
    return fleet


def work(fleet, **environ) -> Page:
    port = free_port()
    fleet.environment |= environ
    fleet.work("--health", f"127.0.0.1:{port}", target=TARGET)
    return Page(port)


def send(fleet, numbers) -> None:
    for number in numbers:
        arguments = json.dumps({"number": number})
        fleet.run("submit", TARGET, "send", "--json", arguments)


@pytest.mark.timeout(400)
def test_calls_replays_and_commits_are_counted(counted):
    page = work(counted)
    send(counted, range(WELL))
    counted.until(lambda: len(counted.effects("called")) == WELL, timeout_s=120)
    counted_jobs.broken().touch()
    send(counted, range(WELL, WELL + FAILED))
    dead = {"outcome": "dead", "queue": "mail"}
    counted.until(lambda: page.sum("shifter_jobs_total", **dead) == FAILED)
    counted_jobs.broken().unlink()

    choice = ("--all", "--yes", "--reason", "healed")
    counted.run("dlt", "replay", "mail", *choice, "--namespace", counted.namespace)

    done = {"outcome": "done", "queue": "mail"}
    counted.until(lambda: page.sum("shifter_jobs_total", **done) == WELL + FAILED)
    # A job that begins while the circuit is open makes no call, and is put off.
    begun, called = len(counted.effects("begun")), len(counted.effects("called"))
    assert called == WELL + 2 * FAILED
    expected = {
        ("shifter_attempts_total", "queue", "mail"): begun,
        ("shifter_calls_total", "outcome", "failure"): FAILED,
        ("shifter_calls_total", "outcome", "success"): called - FAILED,
        ("shifter_replays_total", "queue", "mail"): begun - WELL - FAILED,
        ("shifter_dead_letters_total", "queue", "mail"): FAILED,
    }

    def shown() -> dict[tuple[str, str, str], float]:
        return {key: page.sum(key[0], **{key[1]: key[2]}) for key in expected}

    # A process tells its counts about each second.
    with contextlib.suppress(AssertionError):
        counted.until(lambda: shown() == expected, timeout_s=30)
    assert shown() == expected
    if counted.environment["SHIFTER_LOG"].startswith("kafka:"):
        counted.until(lambda: page.sum("shifter_frontier_gap") == 0)
        counted.until(
            lambda: page.sum("shifter_commits_total") == commits_of(counted) > 0,
            timeout_s=90,
        )


@pytest.mark.timeout(300)
def test_canaries_are_runs_of_no_job_of_the_app_and_lanes_are_shown(counted):
    page = work(counted, SHIFTER_CANARY="1s")
    send(counted, range(2))
    arguments = ("--json", '{"number": 9}', "--delay", "1h")
    counted.run("submit", TARGET, "send", *arguments)

    def runs() -> float:
        return page.sum("shifter_canary_round_trip_seconds_count")

    counted.until(lambda: runs() >= 2, timeout_s=120)
    counted.until(
        lambda: (
            page.sum("shifter_attempts_total") == len(counted.effects("begun")) + runs()
        )
    )
    counted.until(lambda: page.sum("shifter_lane_delayed", queue="mail") == 1)
