"""A process stood still when a member left its group with an assignment not yet served.

``Consumer.close`` served the callback while the client ended the group's state: the
callback's question to that state was never answered, and it waited with the
interpreter's lock. A member serves every callback before it closes its client.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

import pytest
from confluent_kafka import Consumer

from shifter.adapters.kafka import member
from tests.integration.kafka.bench import Bench, Site

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

JOINED_S = 40.0
"""A broker gives a first member its partitions within 1 s; a busy machine adds to it."""


class Client(Consumer):
    """A client whose first assignment waits: its member polls again once it leaves."""

    clients: ClassVar[list[Client]] = []

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.is_leaving, self.in_close = False, 0
        self.is_closing, self.is_closed = False, False
        self.clients.append(self)

    def subscribe(self, topics, *, on_assign, on_revoke, on_lost):
        def counted(callback):
            def call(consumer, partitions):
                self.in_close += self.is_closing
                callback(consumer, partitions)

            return call

        super().subscribe(
            topics,
            on_assign=counted(on_assign),
            on_revoke=counted(on_revoke),
            on_lost=counted(on_lost),
        )

    def poll(self, timeout):
        if self.is_leaving:
            return super().poll(timeout)
        time.sleep(timeout)
        return None

    def unsubscribe(self):
        self.is_leaving = True
        super().unsubscribe()

    def close(self):
        self.is_closing = True
        super().close()
        self.is_closed = True


@pytest.fixture
def site(kafka):
    made = Site(kafka.bootstrap)
    yield made
    made.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_member_serves_its_assignment_before_it_closes(
    site, protocol, monkeypatch
):
    monkeypatch.setattr(member, "Consumer", Client)
    monkeypatch.setattr(Client, "clients", [])
    bench = Bench(site)
    lane = await bench.lane(partitions=4)
    feed = bench.feed(lane, protocol=protocol)
    opening = asyncio.ensure_future(feed.open())
    until = time.monotonic() + JOINED_S
    while not (Client.clients and _has_members(site, bench.group)):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)

    await feed.close(timeout_s=10)

    await asyncio.gather(opening, return_exceptions=True)
    await bench.close()
    assert [(client.is_closed, client.in_close) for client in Client.clients] == [
        (True, 0)
    ]


def _has_members(site, group):
    """Whether the broker gave a member of the group all four partitions."""
    found = site.admin.describe_consumer_groups([group])[group].result(40)
    return any(len(m.assignment.topic_partitions) == 4 for m in found.members)
