"""What a waiting item is taken to cost, beside what it does cost."""

from __future__ import annotations

import gc
import tracemalloc
import uuid

import pytest

from shifter.model.lane import Lane, Priority
from shifter.ports import Delivery
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers
from shifter.work import waiting_limits
from shifter.work.deadline_queue import DeadlineQueue
from shifter.work.item import Item, ItemReader
from tests.integration.drain_world import World

COUNT, NOW = 2_000, 1_800_000_000_000
LANE = Lane("shop", "mail", Priority.LOW)


def as_a_client_hands_it_out(number: int, job: str, *, is_full: bool) -> Delivery:
    """Bytes and strings of its own, as those of each message are."""
    facts = {"v": 1, "id": str(uuid.uuid4()), "type": job, "attempt": 1, "turn": 1}
    extra = []
    if is_full:
        facts |= {
            "idempotency_key": f"order-{number:020d}",
            "key": f"customer-{number:012d}",
            "deadline_ms": NOW + 3_600_000,
            "queue": LANE.queue,
            "priority": LANE.priority,
        }
        extra = [("traceparent", f"00-{number:032x}-{number:016x}-01".encode())]
    headers = build_headers(
        EnvelopeV1(**facts), content_type="application/json", extra=extra
    )
    return Delivery(
        topic=LANE.name,
        key=b"customer-%012d" % number if is_full else None,
        value=b"",
        headers=[(str(k.encode(), "utf8"), bytes(bytearray(v))) for k, v in headers],
        appended_ms=NOW + number,
        partition=0,
        offset=number,
    )


@pytest.mark.parametrize("is_full", [False, True])
def test_the_overhead_of_an_item_is_within_a_third_of_what_is_counted(is_full):
    world = World()

    @world.app.job(queue="mail")
    async def send(n: int) -> None: ...

    [name] = world.app.handlers
    reader, line = ItemReader({LANE.name: LANE}, world.app.handlers), DeadlineQueue()

    def read(number: int) -> Item:
        delivery = as_a_client_hands_it_out(number, name, is_full=is_full)
        item = reader.read(delivery, None, NOW + number)
        assert isinstance(item, Item)
        return item

    for number in range(100):
        read(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(COUNT):
            line.put(read(number))
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / COUNT
    finally:
        tracemalloc.stop()

    assert 0.67 < each / waiting_limits._OVERHEAD_BYTES < 1.33
