"""Weights, zones, slow start and keys."""

from __future__ import annotations

import collections

import pytest

from shifter.balance import Endpoint
from shifter.errors import ConfigError
from shifter.policy.balance.group import Group
from shifter.protection import BalancePolicy


def test_an_endpoint_without_an_answer_gets_one_call_while_others_are_known():
    group = Group(BalancePolicy())
    group.update([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    known, new = group.states.values()
    known.latency.observe(20.0, 0.5)
    first = group.choose(20.0, 0.1)
    assert first is new
    group.begin(new, 20.0)
    assert {group.choose(20.0, u / 9) for u in range(9)} == {known}


def test_an_endpoint_that_stopped_answering_is_avoided_before_its_calls_end():
    group = Group(BalancePolicy())
    group.update([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    stalled, slow = group.states.values()
    stalled.latency.observe(20.0, 0.01)
    slow.latency.observe(20.0, 0.05)
    group.begin(stalled, 20.0)
    group.begin(slow, 20.0)
    assert {group.choose(20.02, u / 9) for u in range(9)} == {stalled}

    assert {group.choose(20.2, u / 9) for u in range(9)} != {stalled}
    group.ended(slow, 20.21, 0.05, failed=False)
    assert {group.choose(20.21, u / 9) for u in range(9)} == {slow}


def test_an_endpoint_that_was_slow_is_tried_again_by_one_call():
    group = Group(BalancePolicy())
    group.update([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    slow, fine = group.states.values()
    slow.latency.observe(20.0, 5.0)
    fine.latency.observe(70.0, 0.1)  # after 50 s, five times the decay
    assert group.choose(70.0, 0.5) is slow

    group.begin(slow, 70.0)
    group.begin(fine, 70.0)
    assert {group.choose(70.01, u / 9) for u in range(9)} == {fine}


def test_an_endpoint_that_fails_at_once_does_not_look_fast():
    group = Group(BalancePolicy())
    group.update([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    failing, fine = group.states.values()
    for state, took_s, failed in ((failing, 0.001, True), (fine, 0.5, False)):
        group.begin(state, 20.0)
        group.ended(state, 20.0, took_s, failed=failed)
    assert {group.choose(20.0, u / 9) for u in range(9)} == {fine}


def test_an_endpoint_with_twice_the_weight_gets_twice_the_calls_under_way():
    group = Group(BalancePolicy(choice="least_request"))
    group.update([Endpoint("a:1", weight=2), Endpoint("b:1")], 0.0)
    taken = collections.Counter()
    for number in range(300):
        state = group.choose(20.0, number / 300)
        group.begin(state, 20.0)
        taken[state.endpoint.host] += 1
    assert taken == {"a": 200, "b": 100}


def test_the_own_zone_is_called_until_it_is_much_busier():
    group = Group(BalancePolicy(zone="here", choice="least_request"))
    here = [Endpoint(f"h{n}:1", zone="here") for n in range(2)]
    group.update([*here, Endpoint("far:1", zone="there"), Endpoint("x:1")], 0.0)
    taken = []
    for number in range(12):
        state = group.choose(20.0, number / 12)
        group.begin(state, 20.0)
        taken.append(state.endpoint.zone)
    assert taken[:5] == ["here"] * 5
    assert "there" in taken[5:] or None in taken[5:]
    assert taken.count("here") >= 6


def test_a_retry_leaves_a_zone_whose_endpoints_were_all_tried():
    group = Group(BalancePolicy(zone="here"))
    group.update([Endpoint("h:1", zone="here"), Endpoint("far:1")], 0.0)
    assert group.choose(1.0, 0.5).endpoint.host == "h"
    assert group.choose(1.0, 0.5, tried={"http://h:1"}).endpoint.host == "far"


def test_without_an_endpoint_in_the_own_zone_all_are_called():
    group = Group(BalancePolicy(zone="here"))
    group.update([Endpoint("a:1", zone="there"), Endpoint("b:1", zone="there")], 0.0)
    assert {group.choose(1.0, u / 9).endpoint.host for u in range(9)} == {"a", "b"}


def test_a_call_without_a_key_is_shared_by_load():
    group = Group(BalancePolicy(choice="hash"))
    group.update([Endpoint(f"h{n}:1") for n in range(3)], 0.0)
    assert len({group.choose(1.0, u / 9).endpoint.host for u in range(9)}) == 3


def test_an_empty_list_has_no_endpoint():
    for choice in ("peak_ewma", "round_robin", "hash"):
        group = Group(BalancePolicy(choice=choice))
        assert group.choose(1.0, 0.5, key="k") is None
        group.update([], 1.0)
        assert group.choose(1.0, 0.5, key="k") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("choice", "fastest"),
        ("decay_ms", 0),
        ("failure_ms", -1),
        ("slow_start_ms", 1.5),
        ("zone_factor", 1),
        ("hash_load", 1.0),
        ("hedge_share", 0),
        ("subset", 0),
        ("subset", 2.5),
    ],
)
def test_a_wrong_setting_is_one_error_that_names_it(name, value):
    with pytest.raises(ConfigError, match=name) as raised:
        BalancePolicy(**{name: value})
    assert raised.value.field == name


def test_a_subset_and_keys_that_lead_to_one_endpoint_exclude_each_other():
    with pytest.raises(ConfigError, match="subset"):
        BalancePolicy(choice="hash", subset=5)


def test_backups_are_called_as_well_where_fewer_than_half_of_the_others_are_left():
    """And all are called where fewer than half of all are left."""
    group = Group(BalancePolicy())
    primary = [Endpoint(f"p{number}:1") for number in range(4)]
    backups = [Endpoint(f"b{number}:1", priority=1) for number in range(2)]
    group.update([*primary, *backups], 0.0)

    def called():
        return {group.choose(1.0, u / 20).endpoint.host for u in range(20)}

    seen = [called()]
    for gone in primary:
        group.pause(group.states[gone.url], 0.0, 60.0)
        seen.append(called())
    assert seen[:3] == [{"p0", "p1", "p2", "p3"}, {"p1", "p2", "p3"}, {"p2", "p3"}]
    assert seen[3] == {"p3", "b0", "b1"}
    assert len(seen[4]) > 2  # four draws of six each time, so not always all
