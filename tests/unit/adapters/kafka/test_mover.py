from __future__ import annotations

from shifter.adapters.kafka.ladder import Hop
from shifter.adapters.kafka.mover import DelayHeap
from shifter.ports import Delivery

NOW = 1_000_000


def hop(ready_ms, *, epoch=1):
    delivery = Delivery("t", None, b"", [], 0, 0, 0, epoch)
    return Hop(delivery, None, 0, ready_ms)


def filled(*hops, limit=100):
    heap = DelayHeap(limit)
    for one in hops:
        heap.read(one)
    return heap


def test_trips_come_in_order_of_their_time_and_not_before():
    hops = [hop(NOW + ms) for ms in (5, 0, 9, -3, 0)]
    heap = filled(*hops)

    ready = heap.take_ready(NOW, 10)

    assert ready == [hops[3], hops[1], hops[4]]
    assert heap.next_ms == NOW + 5
    assert len(heap) == 2


def test_at_most_so_many_are_taken():
    heap = filled(*(hop(NOW) for _ in range(5)))

    assert len(heap.take_ready(NOW, 3)) == 3
    assert len(heap) == 2


def test_an_empty_heap_waits_for_nothing():
    assert DelayHeap().next_ms is None
    assert DelayHeap().take_ready(NOW, 1) == []
    assert DelayHeap().to_hold(NOW) == frozenset()


def test_what_others_own_by_now_is_forgotten():
    mine, gone = hop(NOW, epoch=2), hop(NOW, epoch=1)
    heap = filled(gone, mine)

    heap.keep_only(frozenset({2}))

    assert heap.take_ready(NOW, 10) == [mine]


def test_a_partition_far_ahead_is_held_until_it_is_near():
    heap = filled(hop(NOW + 10_001, epoch=1), hop(NOW + 900, epoch=2))
    assert heap.to_hold(NOW) == {1}

    assert heap.to_hold(NOW + 5_000) == {1}
    assert heap.to_hold(NOW + 8_001) == frozenset()


def test_the_same_answer_is_the_same_object():
    heap = filled(hop(NOW + 60_000))

    assert heap.to_hold(NOW) is heap.to_hold(NOW + 1)


def test_a_half_full_heap_looks_less_far_ahead():
    near = [hop(NOW, epoch=2) for _ in range(50)]
    ahead = hop(NOW + 3_000, epoch=1)

    assert filled(ahead).to_hold(NOW) == frozenset()
    assert filled(ahead, *near).to_hold(NOW) == {1}


def test_on_a_full_heap_only_what_takes_more_than_its_share_is_held():
    many = [hop(NOW, epoch=1) for _ in range(90)]
    few = [hop(NOW, epoch=2) for _ in range(10)]

    assert filled(*many, *few[:9]).to_hold(NOW) == frozenset()
    assert filled(*many, *few).to_hold(NOW) == {1}


def test_a_share_is_free_again_when_its_trips_have_left():
    heap = filled(*(hop(NOW - n, epoch=1) for n in range(60)))
    for _ in range(40):
        heap.read(hop(NOW + 100, epoch=2))
    assert heap.to_hold(NOW) == {1}

    heap.take_ready(NOW, 60)

    assert heap.to_hold(NOW) == frozenset()


def test_a_trip_that_was_put_back_is_no_evidence_of_how_far_its_partition_was_read():
    heap = filled(hop(NOW))

    heap.put(hop(NOW + 60_000))

    assert heap.to_hold(NOW) == frozenset()


def test_one_clock_that_is_wrong_holds_up_no_partition():
    genuine = [hop(NOW + ms) for ms in range(20)]

    heap = filled(*genuine, hop(NOW + 3_600_000))

    assert heap.to_hold(NOW) == frozenset()
