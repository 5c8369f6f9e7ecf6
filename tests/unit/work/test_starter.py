"""Choosing, claiming and starting items, without handlers."""

from __future__ import annotations

import asyncio

from shifter.work.starter import Starter
from tests.unit.work.items import Stages


class Slots:
    """Stands for the executor: counts slots and remembers what was started."""

    def __init__(self, free: int) -> None:
        self.free, self.started = free, []

    def take(self, slots):
        self.free -= slots

    def give_back(self, slots):
        self.free += slots

    def start(self, items, *, now_ms):
        self.started += [item for item, _ in items]


def starter_of(stages, slots):
    stopping = asyncio.Event()
    completer = stages.completer()
    starter = Starter(
        stages.state,
        slots,
        completer,
        stopping=stopping,
        made_room=lambda: None,
    )
    return starter, completer, stopping


def put(stages, *items):
    for item in items:
        stages.state.buffer.put(item, now=stages.clock.monotonic())


async def test_no_more_items_are_chosen_than_slots_are_free():
    stages, slots = Stages(), Slots(2)
    starter, _, _ = starter_of(stages, slots)
    items = [stages.item() for _ in range(3)]
    put(stages, *items)

    chosen = starter.choose()
    await starter.start(chosen)

    assert slots.started == items[:2]
    assert (slots.free, starter.may_start) == (0, False)


async def test_an_item_that_the_log_gave_to_another_worker_is_dropped():
    stages, slots = Stages(), Slots(2)
    starter, _, _ = starter_of(stages, slots)
    gone, ours = stages.item(), stages.item()
    put(stages, gone, ours)
    stages.feed.taken_away = {gone.delivery.offset}

    assert starter.choose() == [ours]
    assert slots.free == 1


async def test_an_item_past_its_deadline_is_ended_and_frees_its_slot():
    stages, slots = Stages(), Slots(1)
    starter, completer, _ = starter_of(stages, slots)
    put(stages, stages.item(deadline_ms=stages.clock.epoch_ms() + 1_000))
    stages.clock.advance(1.0)

    await starter.start(starter.choose())

    assert (slots.started, slots.free, completer.pending) == ([], 1, 1)


async def test_an_item_whose_claim_another_worker_holds_waits_in_memory():
    stages, slots = Stages(), Slots(1)
    starter, _, _ = starter_of(stages, slots)
    item = await stages.granted()
    put(stages, stages.item(id=item.envelope.id))

    await starter.start(starter.choose())

    assert (slots.started, slots.free) == ([], 1)
    assert len(stages.state.delayed) == 1


async def test_nothing_is_started_once_the_worker_stops():
    stages, slots = Stages(), Slots(1)
    starter, completer, stopping = starter_of(stages, slots)
    put(stages, stages.item())
    chosen = starter.choose()
    stopping.set()

    await starter.start(chosen)

    assert (slots.started, completer.pending) == ([], 1)
    assert not starter.may_start
