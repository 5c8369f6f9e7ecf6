"""Which failures of a job are retried, and how soon."""

from __future__ import annotations

import pytest

from shifter import Backoff
from shifter.errors import ConfigError
from shifter.model.error_kinds import NO_RULES
from shifter.policy.delivery.backoff import BackoffPolicy
from shifter.policy.delivery.error_rules import RETRIED, read_rules, ruling_of


def ruling(error, *, retry_on=None, give_up_on=None, retry=()):
    return ruling_of(error, read_rules(retry_on, give_up_on, dict(retry)))


def gives_up(error, **rules):
    return ruling(error, **rules).gives_up


def broken(error):
    raise RuntimeError("the rule itself fails")


def test_without_rules_every_failure_is_retried():
    assert read_rules(None, None, {}) is NO_RULES
    assert ruling(OSError()) is RETRIED


@pytest.mark.parametrize(
    ("rules", "error", "expected"),
    [
        ({"retry_on": OSError}, ConnectionError(), False),
        ({"retry_on": OSError}, ValueError(), True),
        ({"retry_on": (OSError, KeyError)}, KeyError(), False),
        ({"give_up_on": LookupError}, KeyError(), True),
        ({"give_up_on": LookupError}, OSError(), False),
        # The most specific type holds, whichever option names it.
        ({"retry_on": OSError, "give_up_on": FileNotFoundError}, OSError(), False),
        (
            {"retry_on": OSError, "give_up_on": FileNotFoundError},
            FileNotFoundError(),
            True,
        ),
        (
            {"retry_on": FileNotFoundError, "give_up_on": OSError},
            FileNotFoundError(),
            False,
        ),
        # A type with a backoff of its own is retried.
        (
            {"retry_on": KeyError, "retry": {OSError: Backoff("1s")}},
            ConnectionError(),
            False,
        ),
        ({"retry_on": KeyError, "retry": {OSError: Backoff("1s")}}, TypeError(), True),
        # Functions are asked about what no type names, `give_up_on` first.
        ({"give_up_on": lambda error: "sold" in str(error)}, OSError("sold"), True),
        ({"give_up_on": lambda error: "sold" in str(error)}, OSError("late"), False),
        ({"retry_on": lambda error: "late" in str(error)}, OSError("late"), False),
        ({"retry_on": lambda error: "late" in str(error)}, OSError("sold"), True),
        ({"retry_on": lambda _: True, "give_up_on": lambda _: True}, OSError(), True),
        ({"retry_on": lambda _: True, "give_up_on": OSError}, OSError(), True),
        ({"give_up_on": lambda _: True, "retry_on": OSError}, OSError(), False),
        # A function that fails has no say.
        ({"give_up_on": broken}, OSError(), False),
        ({"retry_on": broken}, OSError(), False),
        # One member of a group that is given up ends the job.
        (
            {"give_up_on": KeyError},
            ExceptionGroup("two", [OSError(), KeyError()]),
            True,
        ),
        ({"give_up_on": KeyError}, ExceptionGroup("one", [OSError()]), False),
    ],
)
def test_which_failures_end_the_job(rules, error, expected):
    assert gives_up(error, **rules) is expected


def test_the_backoff_is_that_of_the_most_specific_type():
    retry = {OSError: Backoff("2s"), ConnectionError: Backoff(30, most="10m")}

    assert ruling(BrokenPipeError(), retry=retry).backoff == BackoffPolicy(
        base_ms=30_000, cap_ms=600_000
    )
    assert ruling(OSError(), retry=retry).backoff == BackoffPolicy(
        base_ms=2_000, cap_ms=300_000
    )
    assert ruling(KeyError(), retry=retry) is RETRIED
    group = ExceptionGroup("both", [OSError(), ConnectionError()])
    assert ruling(group, retry=retry).backoff.base_ms == 30_000


def test_a_long_first_wait_raises_the_largest_one():
    assert Backoff("1h").policy() == BackoffPolicy(base_ms=3_600_000, cap_ms=3_600_000)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry_on": "OSError"}, "retry_on"),
        ({"give_up_on": [OSError]}, "give_up_on"),
        ({"retry_on": int}, "retry_on"),
        ({"retry": {OSError: "1s"}}, "use a mapping such as"),
        ({"retry": {"OSError": Backoff("1s")}}, "use a mapping such as"),
        ({"retry": [OSError]}, "use a mapping such as"),
        ({"retry_on": OSError, "give_up_on": OSError}, "OSError"),
        ({"retry": {OSError: Backoff("1s")}, "give_up_on": (OSError,)}, "OSError"),
    ],
)
def test_a_wrong_rule_is_one_error_that_names_it(options, text):
    rules = {"retry_on": None, "give_up_on": None, "retry": {}} | options

    with pytest.raises(ConfigError, match=text):
        read_rules(**rules)


@pytest.mark.parametrize(
    "values", [("soon",), (0,), ("1m", "1s"), ("1s", "never")], ids=str
)
def test_a_wrong_backoff_is_one_error(values):
    with pytest.raises(ConfigError):
        Backoff(*values)
