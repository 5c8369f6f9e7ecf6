"""The order of one lane's queue."""

from __future__ import annotations

from shifter.work.deadline_queue import FREE_MS, DeadlineQueue
from tests.unit.work.items import Stages


def test_items_without_a_deadline_leave_in_the_order_of_their_coming():
    stages, queue = Stages(), DeadlineQueue()
    items = [stages.item() for _ in range(3)]
    for item in items:
        queue.put(item)

    assert queue.take(2) == items[:2]
    assert queue.take(9) == items[2:]


def test_a_near_deadline_overtakes_and_a_far_one_does_not():
    stages, queue = Stages(), DeadlineQueue()
    now_ms = stages.clock.epoch_ms()
    far = stages.item(deadline_ms=now_ms + 2 * FREE_MS)
    free = stages.item()
    near = stages.item(deadline_ms=now_ms + 1_000)
    for item in (far, free, near):
        queue.put(item)

    assert queue.take(3) == [near, free, far]


def test_an_item_that_comes_back_gets_the_place_that_it_had():
    stages, queue = Stages(), DeadlineQueue()
    items = [stages.item() for _ in range(4)]
    for item in items:
        queue.put(item)
    first, second = queue.take(2)

    queue.put(second)
    queue.put(first)

    assert queue.take(4) == items


def test_a_wall_clock_that_goes_back_lets_no_later_item_overtake():
    stages, queue = Stages(), DeadlineQueue()
    earlier = stages.item()
    queue.put(earlier)
    stages.clock.shift_wall(-3_600_000)
    later = stages.item()
    queue.put(later)

    assert queue.take(2) == [earlier, later]


def test_items_due_before_an_instant_are_taken_and_others_stay():
    stages, queue = Stages(), DeadlineQueue()
    now_ms = stages.clock.epoch_ms()
    soon = stages.item(deadline_ms=now_ms + 10)
    late = stages.item(deadline_ms=now_ms + 1_000)
    for item in (late, soon, stages.item()):
        queue.put(item)

    assert queue.next_deadline_ms == now_ms + 10
    assert queue.take_due(9, now_ms + 1_000) == [soon]
    assert queue.next_deadline_ms == now_ms + 1_000
    assert len(queue) == 2


def test_the_last_items_that_may_leave_are_taken_and_the_rest_keeps_its_order():
    stages, queue = Stages(), DeadlineQueue()
    now_ms = stages.clock.epoch_ms()
    soon = stages.item(deadline_ms=now_ms + 10)
    late = stages.item(deadline_ms=now_ms + 99)
    first, second, third = (stages.item() for _ in range(3))
    for item in (late, first, second, soon, third):
        queue.put(item)

    assert queue.take_last(1, lambda item: item is not third) == [second]
    assert queue.take_last(2, lambda item: item is not third) == [first, late]
    assert queue.take_last(0, lambda _: True) == []
    assert queue.take(9) == [soon, third]
