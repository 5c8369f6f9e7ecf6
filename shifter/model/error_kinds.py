"""Kinds of exceptions, and what a job type does with each kind of failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from shifter.errors import ConfigError

ErrorKinds: TypeAlias = (
    type[BaseException]
    | tuple[type[BaseException], ...]
    | Callable[[BaseException], bool]
)
"""Types of exceptions, or a function that returns whether an exception is meant."""


@dataclass(frozen=True, slots=True)
class ErrorRules:
    """What follows each kind of failure of a job type.

    `shifter.policy.delivery.error_rules.ruling_of` applies them.

    Attributes:
        retry_on: Exceptions after which the job runs again; ``None`` for all.
        give_up_on: Exceptions after which it does not.
        backoffs: Backoffs of exceptions after which it runs again: type, upper bound
            of the first wait and largest upper bound, in milliseconds.
    """

    retry_on: ErrorKinds | None = None
    give_up_on: ErrorKinds | None = None
    backoffs: tuple[tuple[type[BaseException], int, int], ...] = ()


NO_RULES: Final = ErrorRules()
"""Every failure is retried, with the backoff of its job type."""


def check_kinds(field: str, kinds: object) -> None:
    """Check that a value is exception types or a function.

    Raises:
        ConfigError: It is neither.
    """
    found = kinds if isinstance(kinds, tuple) else (kinds,)
    if all(is_error_type(one) for one in found):
        return
    if isinstance(kinds, type) or not callable(kinds):
        want = "use an exception type, a tuple of them, or a function of an exception"
        raise ConfigError(field, kinds, want)


def is_error_type(value: object) -> bool:
    """Whether a value is a type of exceptions."""
    return isinstance(value, type) and issubclass(value, BaseException)


def error_types(kinds: ErrorKinds | None) -> tuple[type[BaseException], ...]:
    """The types among kinds of exceptions; none of a function.

    >>> error_types(OSError), error_types(None)
    ((<class 'OSError'>,), ())
    """
    if isinstance(kinds, tuple):
        return kinds
    return (kinds,) if isinstance(kinds, type) else ()


def is_meant(error: BaseException, kinds: ErrorKinds) -> bool:
    """Whether an exception is of these kinds."""
    if isinstance(kinds, type | tuple):
        return isinstance(error, kinds)
    return bool(kinds(error))
