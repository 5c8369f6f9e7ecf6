"""A member's process was aborted by the second callback of one poll.

``Consumer.list_topics`` in a callback removes the client's note of the poll that the
callback belongs to. The next callback of that poll, such as the result of a commit,
failed an assertion of the client: ``CallState_get: Assertion `cs != NULL' failed``. A
member asks for the topics of its cluster where its group has no commit yet, and where a
topic that it was assigned is gone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PROGRAM = """
import asyncio, sys
from confluent_kafka import Consumer, TopicPartition
from shifter.adapters.kafka import member
from tests.integration.kafka.bench import Bench, Site


class Client(Consumer):
    # A poll is long enough for the result of a commit that is sent in its callback.
    results = 0

    def __init__(self, properties, **options):
        report = properties["on_commit"]

        def on_commit(error, partitions):
            Client.results += 1
            report(error, partitions)

        super().__init__({**properties, "on_commit": on_commit}, **options)

    def subscribe(self, topics, *, on_assign, on_revoke, on_lost):
        def assigned(consumer, partitions):
            first = TopicPartition(partitions[0].topic, partitions[0].partition, 0)
            on_assign(consumer, partitions)
            consumer.commit(offsets=[first], asynchronous=True)

        super().subscribe(
            topics, on_assign=assigned, on_revoke=on_revoke, on_lost=on_lost
        )

    def poll(self, timeout):
        return super().poll(max(timeout, 2.0))


async def main():
    member.Consumer = Client
    site = Site(sys.argv[1])
    bench = Bench(site)
    lane = await bench.lane(partitions=2)
    await bench.write(lane, range(10))
    feed = await bench.opened(lane)
    found = await bench.collect(feed, 10)
    await bench.until(lambda: Client.results)
    await bench.close()
    site.close()
    print(sorted(int(one.value) for one in found))


asyncio.run(main())
"""


def test_a_commit_is_answered_in_the_poll_of_an_assignment(kafka):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kafka.bootstrap],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, f"{list(range(10))}\n"), done.stderr
