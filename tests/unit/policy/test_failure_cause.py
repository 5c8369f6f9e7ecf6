"""Failures counted by kind."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.failure_cause import CauseCounter, FailureCause, main_cause
from shifter.policy.protection.circuit.policy import CircuitPolicy, cooldown_ms
from shifter.policy.protection.failure_kinds import cooldown_for, read_cooldowns
from shifter.policy.sliding_window import WindowPolicy

WINDOW = WindowPolicy(length_ms=10_000, buckets=10)


def counted(*causes):
    counter = CauseCounter(WINDOW)
    for now_ms, kind, message in causes:
        counter.record(FailureCause(kind, 1, message), now_ms)
    return counter


def test_the_kind_of_most_failures_is_named_with_its_last_message():
    counter = counted((0, "A", "one"), (1, "B", "two"), (2, "A", "three"))

    assert counter.main(2) == FailureCause("A", 2, "three")


def test_failures_that_left_the_window_do_not_count():
    counter = counted((0, "A", ""), (1, "A", ""), (9_000, "B", "new"))

    assert counter.main(10_500) == FailureCause("B", 1, "new")
    assert counter.main(30_000) is None


def test_a_ninth_kind_is_counted_once_another_one_has_left_the_window():
    counter = counted(*((0, str(number), "") for number in range(8)))

    for _ in range(3):
        counter.record(FailureCause("ninth"), 5)
    assert counter.main(5).kind != "ninth"

    counter.record(FailureCause("ninth"), 20_000)
    assert counter.main(20_000) == FailureCause("ninth", 1)


def test_of_kinds_with_equally_many_failures_the_longer_cooldown_is_taken():
    short, long = FailureCause("A", 2, "", 1_000), FailureCause("B", 2, "", 9_000)

    assert main_cause([short, long]) == main_cause([long, short]) == long
    assert main_cause([short, long, short]) == FailureCause("A", 4, "", 1_000)
    assert main_cause([]) is None


class AuthError(PermissionError):
    """A subclass of a subclass."""


@pytest.mark.parametrize(
    "rules",
    [{OSError: 1, PermissionError: 2}, {PermissionError: 2, OSError: 1}],
    ids=["general first", "specific first"],
)
def test_the_most_specific_type_holds_whatever_the_order_of_the_rules(rules):
    assert cooldown_for(AuthError(), rules) == 2
    assert cooldown_for(FileNotFoundError(), rules) == 1
    assert cooldown_for(ValueError(), rules) == 0


def test_an_exception_without_a_rule_is_looked_up_by_what_it_was_raised_from():
    rules = {ConnectionRefusedError: 2_000}
    error = RuntimeError("the library's own")
    error.__cause__ = ConnectionRefusedError()

    assert cooldown_for(error, rules) == 2_000
    assert cooldown_for(error, {**rules, Exception: 7}) == 7

    error.__cause__.__cause__ = error  # a circle
    assert cooldown_for(error, {ValueError: 1}) == 0


@pytest.mark.parametrize(
    "wrong",
    [5, [OSError], {"OSError": "2s"}, {OSError: "soon"}, {OSError: 0}, {int: "2s"}],
)
def test_wrong_rules_of_cooldowns_are_refused_by_name(wrong):
    with pytest.raises(ConfigError) as refused:
        read_cooldowns(wrong)

    assert refused.value.field == "cooldown"


@pytest.mark.parametrize(
    ("first_ms", "bounds"),
    [
        (0, [5_000, 10_000, 20_000, 40_000, 60_000]),
        (2_000, [2_000, 4_000]),
        (300_000, [300_000, 300_000]),
    ],
)
def test_a_cooldown_begins_with_its_kinds_and_doubles(first_ms, bounds):
    found = [
        cooldown_ms(CircuitPolicy(), openings=n + 1, u=0.0, first_ms=first_ms) * 2
        for n in range(len(bounds))
    ]

    assert found == bounds
