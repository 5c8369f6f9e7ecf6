"""Which exceptions of a call are failures of its dependency, and for how long.

By default each exception is a failure, except mistakes of the caller's own code: an
exception whose type is exactly one of `OWN_MISTAKES`. A subclass is a failure, since a
library derived it from an answer: a `json.JSONDecodeError` is a `ValueError`, and is
evidence that the dependency sent an error page.

Source: resilience4j and Polly (recorded and ignored exceptions, ignored ones first).

A rule of `cooldown=` gives the first cooldown of a circuit that opens for one type of
exception. The most specific type holds: the first class of the exception's own method
resolution order that has a rule, whatever the order of the rules. If no class has one,
the exception that it was raised from is looked up, and so on: httpx raises a
``ConnectError`` from a ``ConnectionRefusedError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from shifter.errors import ConfigError
from shifter.model.error_kinds import ErrorKinds, is_error_type, is_meant
from shifter.model.time import Duration, duration_ms

Cooldowns: TypeAlias = Mapping[type[BaseException], Duration]
"""The first cooldown of a circuit, by the type of the exception that it opens for."""

OWN_MISTAKES: Final = frozenset(
    {
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        LookupError,
        ModuleNotFoundError,
        NameError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        TypeError,
        UnboundLocalError,
        ValueError,
        ZeroDivisionError,
    }
)

_MOST_CAUSES: Final = 8
"""Exceptions of one chain that are looked up: a chain may be a circle."""


def read_cooldowns(cooldowns: object) -> dict[type[BaseException], int]:
    """Rules of cooldowns, in milliseconds.

    Raises:
        ConfigError: It is no mapping of exception types to durations of 1 ms or more.

    >>> read_cooldowns({OSError: "2s"})
    {<class 'OSError'>: 2000}
    """
    want = "use a mapping such as {ConnectionRefusedError: '2s'}"
    if not isinstance(cooldowns, Mapping):
        raise ConfigError("cooldown", cooldowns, want)
    for kind in cooldowns:
        if not is_error_type(kind):
            raise ConfigError("cooldown", kind, want)
    return {
        kind: duration_ms("cooldown", value, minimum_ms=1)
        for kind, value in cooldowns.items()
    }


def is_failure(
    error: BaseException, failures: ErrorKinds | None, ignore: ErrorKinds | None
) -> bool:
    """Whether an exception is a failure of the dependency.

    Args:
        error: What was raised.
        failures: Exceptions that are failures; ``None`` for all but `OWN_MISTAKES`.
        ignore: Exceptions that are none, whatever ``failures`` is; ``None`` for none.

    >>> is_failure(OSError(), None, None), is_failure(ValueError(), None, None)
    (True, False)
    >>> is_failure(ValueError(), Exception, None), is_failure(OSError(), None, OSError)
    (True, False)
    """
    if ignore is not None and is_meant(error, ignore):
        return False
    if failures is None:
        return type(error) not in OWN_MISTAKES
    return is_meant(error, failures)


def cooldown_for(error: BaseException, rules: Mapping[type[BaseException], int]) -> int:
    """The first cooldown of a circuit that opens for an exception.

    Args:
        error: What was raised.
        rules: Milliseconds, by type.

    Returns:
        Milliseconds; 0 if no rule holds.

    >>> rules = {OSError: 5_000, ConnectionRefusedError: 2_000}
    >>> cooldown_for(ConnectionRefusedError(), rules), cooldown_for(OSError(), rules)
    (2000, 5000)
    >>> cooldown_for(ValueError(), rules)
    0
    """
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES if rules else 0):
        if cause is None:
            break
        for kind in type(cause).__mro__:
            if kind in rules:
                return rules[kind]
        cause = cause.__cause__
    return 0
