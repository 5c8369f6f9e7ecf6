"""Which exceptions of a call are failures of its dependency.

By default each is one, except mistakes of the caller's own code: an exception whose
type is exactly one of `OWN_MISTAKES`. A subclass is a failure, since a library derived
it from an answer: a `json.JSONDecodeError` is a `ValueError`, and is evidence that the
dependency sent an error page.

Source: resilience4j and Polly (recorded and ignored exceptions, ignored ones first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from shifter.errors import ConfigError

ErrorKinds: TypeAlias = (
    type[BaseException]
    | tuple[type[BaseException], ...]
    | Callable[[BaseException], bool]
)
"""Types of exceptions, or a function that says whether one is meant."""

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


def check_kinds(field: str, kinds: object) -> None:
    """Refuse what is neither types nor a function.

    Raises:
        ConfigError: It is neither.
    """
    found = kinds if isinstance(kinds, tuple) else (kinds,)
    if all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
        return
    if isinstance(kinds, type) or not callable(kinds):
        want = "use an exception type, a tuple of them, or a function of an exception"
        raise ConfigError(field, kinds, want)


def is_failure(
    error: BaseException, failures: ErrorKinds | None, ignore: ErrorKinds | None
) -> bool:
    """Whether an exception is a failure of the dependency.

    Args:
        error: What was raised.
        failures: What is one; ``None`` for all but `OWN_MISTAKES`.
        ignore: What is none, whatever ``failures`` says; ``None`` for nothing.

    >>> is_failure(OSError(), None, None), is_failure(ValueError(), None, None)
    (True, False)
    >>> is_failure(ValueError(), Exception, None), is_failure(OSError(), None, OSError)
    (True, False)
    """
    if ignore is not None and _is_meant(error, ignore):
        return False
    if failures is None:
        return type(error) not in OWN_MISTAKES
    return _is_meant(error, failures)


def _is_meant(error: BaseException, kinds: ErrorKinds) -> bool:
    if isinstance(kinds, type | tuple):
        return isinstance(error, kinds)
    return bool(kinds(error))
