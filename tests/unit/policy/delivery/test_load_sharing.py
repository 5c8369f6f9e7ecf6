"""What a worker without a free slot may give to the others."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from shifter.policy.delivery.load_sharing import (
    Room,
    SharingPolicy,
    Target,
    WorkerLoad,
    spare_per_s,
    targets,
)

LANE = "shop.mail.low"
FREE = WorkerLoad(10, 2, 20.0, 0.2, {LANE: [0, 1]})
FULL = FREE._replace(running=10)

loads = st.builds(
    WorkerLoad,
    st.integers(0, 1_000),
    st.integers(0, 1_000),
    st.floats(0, 1e6),
    st.floats(0, 2),
    st.just({LANE: [3]}),
    st.booleans(),
)


@given(loads)
def test_a_worker_without_a_free_slot_or_that_ends_gets_nothing(load):
    spare = spare_per_s(load)

    assert spare >= 0
    if load.is_full or not load.takes_jobs:
        assert spare == 0


def test_a_processor_in_use_counts_however_many_slots_are_free():
    busy = WorkerLoad(1_000, 10, 50.0, 0.9, {})

    assert spare_per_s(busy) == pytest.approx(50 / 9)


def test_senders_share_what_the_others_can_start():
    alone, second = targets([FREE], {}, for_s=1.0), targets([FREE, FULL], {}, for_s=1.0)

    assert [one.spare for one in alone] == [80]
    assert [one.spare for one in second] == [40]


def test_a_worker_that_reports_no_partitions_gets_nothing():
    assert not targets([FREE._replace(partitions={})], {}, for_s=1.0)


def test_no_job_goes_to_a_partition_of_ones_own():
    [target] = targets([FREE], {LANE: [0]}, for_s=1.0)

    assert target.partitions == {LANE: [1]}
    assert not targets([FREE], {LANE: [1, 0]}, for_s=1.0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=6),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
)
def test_room_is_never_overdrawn_and_goes_to_readers_of_the_topic(spares, draws):
    others = [
        Target({LANE if reads else "shop.other.low": [2 * n, 2 * n + 1]}, spare)
        for n, (spare, reads) in enumerate(spares)
    ]
    room, taken = Room(others), Counter()

    for u in draws:
        if room.of(LANE):
            taken[room.take(LANE, u) // 2] += 1

    for number, (spare, reads) in enumerate(spares):
        assert taken[number] <= (spare if reads else 0)
    readable = sum(spare for spare, reads in spares if reads)
    assert taken.total() == min(len(draws), readable)


def test_a_topic_without_room_is_an_error():
    with pytest.raises(ValueError, match="no room"):
        Room([]).take(LANE, 0.5)


def test_what_starts_soon_is_kept():
    policy = SharingPolicy()

    assert [policy.keep(rate) for rate in (0.0, 19.0, 20.0, 1_000.0)] == [0, 0, 1, 50]
