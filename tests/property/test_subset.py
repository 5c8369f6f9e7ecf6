"""Subsets of endpoints: bounded, even, and calm when something comes or goes."""

from __future__ import annotations

import collections
import math
import random

from hypothesis import given, strategies as st

from shifter.balance import Endpoint
from shifter.policy.balance.subset import Place, subset, subset_by_zone

counts = st.integers(1, 60)
sizes = st.integers(1, 70)
draws = st.floats(0, 1, exclude_max=True)


def endpoints(count, **options):
    return [Endpoint(f"h{number}:1", **options) for number in range(count)]


def of_all(listed, size, processes):
    """What each process calls."""
    return [subset(listed, size, Place(k, processes), 0.0) for k in range(processes)]


@given(counts, sizes, counts)
def test_no_endpoint_is_idle_and_none_is_called_by_two_processes_more_than_another(
    count, size, processes
):
    taken = of_all(endpoints(count), size, processes)

    calls = collections.Counter(one.url for each in taken for one in each)

    assert len(calls) == count
    assert max(calls.values()) - min(calls.values()) <= 1
    largest = max(size, math.ceil(count / processes))
    assert {len(each) for each in taken} == {min(count, largest)}


@given(counts, sizes, st.one_of(st.none(), counts), draws)
def test_a_subset_is_part_of_the_list_in_its_order(count, size, processes, u):
    listed = endpoints(count)
    place = None if processes is None else Place(processes - 1, processes)

    taken = subset(listed, size, place, u)

    assert taken == [one for one in listed if one in taken]
    assert len(taken) >= min(size, count)


@given(counts, sizes, st.integers(2, 60), st.data())
def test_a_process_that_leaves_moves_the_subsets_of_the_others_a_little(
    count, size, processes, data
):
    """By the part of the ring that is one process's, rounded up."""
    listed = endpoints(count)
    gone = data.draw(st.integers(0, processes - 1))
    before = of_all(listed, size, processes)
    after = of_all(listed, size, processes - 1)
    del before[gone]
    moved = math.ceil(count / processes) + 1
    grown = max(0, len(after[0]) - len(before[0]))
    for was, now in zip(before, after, strict=True):
        new = {one.url for one in now} - {one.url for one in was}
        assert len(new) <= moved + grown


@given(st.integers(2, 60), sizes, counts, st.data())
def test_an_endpoint_that_leaves_is_replaced_and_moves_a_subset_by_one(
    count, size, processes, data
):
    listed = endpoints(count)
    gone = data.draw(st.sampled_from(listed))
    left = [one for one in listed if one is not gone]
    for number in range(processes):
        place = Place(number, processes)
        was = {one.url for one in subset(listed, size, place, 0.0)}
        now = {one.url for one in subset(left, size, place, 0.0)}
        assert len(now - was) <= 2


@given(counts, counts, sizes, draws)
def test_zones_and_priorities_have_subsets_of_their_own(here, there, size, u):
    listed = [
        *endpoints(here, zone="a"),
        *[Endpoint(f"b{number}:1", zone="b") for number in range(there)],
        Endpoint("backup:1", zone="a", priority=1),
    ]

    taken = subset_by_zone(listed, size, "a", None, u)

    assert sum(one.zone == "a" for one in taken) == min(size, here) + 1
    assert sum(one.zone == "b" for one in taken) == min(size, there)
    assert subset_by_zone(listed, None, "a", None, u) == listed


def test_a_hundred_processes_share_a_hundred_endpoints_evenly_over_few_connections():
    """Also while processes are replaced one after the other, as a deploy does."""
    listed, busiest = endpoints(100), []
    for processes in range(90, 101):
        taken = of_all(listed, 20, processes)
        share = collections.Counter()
        for each in taken:
            share.update({one.url: 1 / len(each) for one in each})
        assert sum(map(len, taken)) == 20 * processes
        busiest.append(max(share.values()) / (processes / 100))
    assert max(busiest) <= 1.25


def test_random_places_are_less_even_and_stay_bounded():
    """What holds where a process does not know its place."""
    draws, share = random.Random(1), collections.Counter()
    for _ in range(100):
        each = subset(endpoints(100), 20, None, draws.random())
        assert len(each) == 20
        share.update({one.url: 1 / 20 for one in each})
    assert 1.25 < max(share.values()) <= 2
