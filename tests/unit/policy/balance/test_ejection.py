"""Which endpoints get no calls for a while."""

from __future__ import annotations

import pytest

from shifter.balance import Endpoint
from shifter.errors import ConfigError
from shifter.policy.balance.group import Group
from shifter.policy.failure_cause import FailureCause
from shifter.protection import BalancePolicy, EjectionPolicy


def group_of(count, **options):
    ejection = EjectionPolicy(**options)
    group = Group(BalancePolicy(ejection=ejection, slow_start_ms=10_000))
    group.update([Endpoint(f"h{number}:1") for number in range(count)], 0.0)
    return group


def end(group, name, now, took_s=0.01, *, failed=False):
    state = group.states[f"http://{name}:1"]
    group.begin(state, now)
    group.ended(state, now, took_s, failed=failed)
    return state


def out(group):
    return [
        state.endpoint.host for state in group.states.values() if state.health.out_until
    ]


def test_five_failures_in_a_row_eject_for_30_s_and_a_success_between_does_not():
    group = group_of(3)
    for failed in (True, True, True, True, False, True, True, True, True):
        end(group, "h0", 1.0, failed=failed)
    assert out(group) == []

    state = end(group, "h0", 1.0, failed=True)

    assert out(group) == ["h0"]
    assert state.health.out_until == 31.0
    assert state.health.why == "5 failures in a row"


def test_each_ejection_is_30_s_longer_and_time_without_one_is_forgiven():
    group, now, lengths = group_of(3), 1.0, []
    for pause in (0, 0, 45, 200, 0):
        for _ in range(5):
            state = end(group, "h0", now, failed=True)
        lengths.append(state.health.out_until - now)
        now = state.health.out_until
        group.choose(now, 0.5)
        now += pause
    assert lengths == [30, 60, 90, 90, 30]


def fail(group, *causes, now=1.0):
    state = group.states["http://h0:1"]
    for cause in causes:
        group.begin(state, now)
        group.ended(state, now, 0.01, failed=True, cause=cause)
    return state.health.out_until - now


def test_an_ejection_lasts_as_long_as_the_rule_of_its_kind_of_failure():
    refused = FailureCause("ConnectionRefusedError", cooldown_ms=2_000)
    denied = FailureCause("PermissionError", cooldown_ms=600_000)
    other = FailureCause("OSError")

    assert fail(group_of(3), *[refused] * 5) == 2
    assert fail(group_of(3), *[denied] * 5) == 600, "longer than the longest by itself"
    assert fail(group_of(3), *[other] * 5) == 30
    assert fail(group_of(3), *[None] * 5) == 30
    assert fail(group_of(3), refused, *[other] * 4) == 30, "the kind of most failures"


def test_a_rule_grows_with_each_ejection_as_the_usual_length_does():
    refused = FailureCause("ConnectionRefusedError", cooldown_ms=2_000)
    group, now, lengths = group_of(3, most_ms=5_000, base_ms=1_000), 1.0, []
    for _ in range(3):
        lengths.append(fail(group, *[refused] * 5, now=now))
        now += lengths[-1]
        group.choose(now, 0.5)
    assert lengths == [2, 4, 5]


def test_an_endpoint_that_is_slow_goes_by_no_rule_of_failures():
    refused = FailureCause("ConnectionRefusedError", cooldown_ms=2_000)
    group = group_of(4, interval_ms=1_000, min_calls=10)
    group.update([Endpoint(f"h{number}:1") for number in range(4)], 0.0)
    for number in range(4):
        for _ in range(20):
            end(group, f"h{number}", 0.5, 1.0 if number == 0 else 0.01)
    fail(group, refused, now=0.6)

    state = end(group, "h1", 1.1)

    assert out(group) == ["h0"]
    assert "ms a call" in group.states["http://h0:1"].health.why
    assert group.states["http://h0:1"].health.out_until == pytest.approx(31.1)
    assert not state.health.out_until


def test_no_ejection_is_longer_than_the_longest():
    group, now = group_of(3, most_ms=40_000), 1.0
    for _ in range(4):
        for _ in range(5):
            state = end(group, "h0", now, failed=True)
        length, now = state.health.out_until - now, state.health.out_until
        group.choose(now, 0.5)
    assert length == 40


def test_at_most_half_are_ejected_and_the_last_one_never():
    group = group_of(6)
    for number in range(6):
        for _ in range(10):
            end(group, f"h{number}", 1.0, failed=True)
    assert out(group) == ["h0", "h1", "h2"]

    alone = group_of(1)
    for _ in range(100):
        end(alone, "h0", 1.0, failed=True)
    assert out(alone) == []


def test_where_fewer_than_half_are_left_all_are_called():
    group = Group(BalancePolicy(choice="round_robin"))
    group.update([Endpoint(f"h{number}:1") for number in range(6)], 0.0)
    for number in range(3):
        for _ in range(5):
            end(group, f"h{number}", 1.0, failed=True)
    called = {group.choose(2.0, 0.5).endpoint.host for _ in range(12)}
    assert called == {"h3", "h4", "h5"}

    group.update([Endpoint(f"h{number}:1") for number in range(4)], 2.0)

    called = {group.choose(2.0, 0.5).endpoint.host for _ in range(60)}
    assert called == {"h0", "h1", "h2", "h3"}


def test_an_endpoint_that_fails_more_than_the_others_is_ejected_at_the_interval():
    group = group_of(4)
    for number in range(100):
        for name in ("h0", "h1", "h2", "h3"):
            end(group, name, 5.0, failed=name == "h2" and number % 2 == 0)
    assert out(group) == []

    end(group, "h0", 10.0)

    assert out(group) == ["h2"]
    why = group.states["http://h2:1"].health.why
    assert why == "50% of its calls succeeded, 100% elsewhere"


def test_where_all_fail_alike_nobody_is_ejected_by_comparison():
    group = group_of(4)
    for number in range(100):
        for name in ("h0", "h1", "h2", "h3"):
            end(group, name, 5.0, failed=number % 2 == 0)
    end(group, "h0", 10.0)
    assert out(group) == []


def test_an_endpoint_that_is_much_slower_than_the_others_is_ejected():
    group = group_of(4)
    for _ in range(30):
        for name in ("h0", "h1", "h2", "h3"):
            end(group, name, 5.0, 0.2 if name == "h3" else 0.01)
    end(group, "h0", 10.0)
    assert out(group) == ["h3"]
    assert group.states["http://h3:1"].health.why == "200 ms a call, 10 ms elsewhere"


def test_few_calls_and_few_endpoints_are_not_compared():
    few_calls = group_of(4)
    for _ in range(19):
        for name in ("h0", "h1", "h2", "h3"):
            end(few_calls, name, 5.0, 0.2 if name == "h3" else 0.01)
    end(few_calls, "h0", 10.0)
    two = group_of(2)
    for _ in range(30):
        end(two, "h0", 5.0, 0.01)
        end(two, "h1", 5.0, 0.2)
    end(two, "h0", 10.0)
    assert out(few_calls) == out(two) == []


def test_a_healed_endpoint_comes_back_slowly():
    group = group_of(3)
    for _ in range(5):
        state = end(group, "h0", 1.0, failed=True)
    group.choose(31.0, 0.5)
    assert out(group) == []
    assert state.weight(31.0) == pytest.approx(0.1)
    assert state.weight(36.0) == pytest.approx(0.5)
    assert state.weight(41.0) == 1


def test_a_pause_that_an_endpoint_asked_for_is_no_ejection():
    group = group_of(3)
    state = group.states["http://h0:1"]
    group.pause(state, 1.0, 4.0)
    assert out(group) == ["h0"]
    group.choose(5.0, 0.5)
    assert out(group) == []
    assert state.health.times == len(group.changed) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("consecutive_failures", 0),
        ("interval_ms", 0),
        ("min_calls", True),
        ("min_endpoints", 1),
        ("success_margin", 0),
        ("slow_factor", 1),
        ("base_ms", "30s"),
        ("most_ms", 1),
        ("most_share", 1.5),
        ("panic_share", float("nan")),
    ],
)
def test_a_wrong_setting_is_one_error_that_names_it(name, value):
    with pytest.raises(ConfigError, match=name) as raised:
        EjectionPolicy(**{name: value})
    assert raised.value.field == name
