"""Which failures of a job are retried, by the type of the exception, and how soon.

The most specific type holds, whatever the order of the rules: the first class of the
exception's own method resolution order that ``retry_on``, ``give_up_on`` or ``retry``
names. A type that ``retry`` gives a backoff is retried, so it need not stand in
``retry_on`` too. If no class is named, a function in the place of types decides,
``give_up_on`` first; after that every failure is retried, unless ``retry_on`` names
what is. A backoff is looked up in the same order, by itself.

A group of exceptions is judged by its members: one that is given up ends the job, and
of the backoffs the longest holds.

What the handler answers with (`Retry`, `Throttled`, `Discard`, `DeadLetter`) is no
failure. An attempt that ran for too long failed with a ``TimeoutError``, and one whose
isolated process died with a ``ChildProcessError``.

Source: Celery (``autoretry_for``, ``dont_autoretry_for``), Spring Kafka
(``retryOn``, ``notRetryOn``), there without an order of subclasses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from shifter.errors import ConfigError
from shifter.model.error_kinds import (
    NO_RULES,
    ErrorKinds,
    ErrorRules,
    check_kinds,
    error_types,
    is_error_type,
)
from shifter.model.time import Duration, duration_ms
from shifter.policy.delivery.backoff import BackoffPolicy


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait before a retry: a random part of an upper bound that doubles.

    Attributes:
        base: Upper bound of the first retry's wait, 1 ms or more.
        most: Largest upper bound; ``None`` for five minutes, or ``base`` if that is
            longer.

    Raises:
        ConfigError: A value is no duration, or ``most`` is below ``base``.
    """

    base: Duration
    most: Duration | None = None

    def __post_init__(self) -> None:
        self.policy()

    def policy(self) -> BackoffPolicy:
        """The same in milliseconds."""
        base_ms = duration_ms("base", self.base, minimum_ms=1)
        if self.most is None:
            return BackoffPolicy(base_ms=base_ms, cap_ms=max(_MOST_MS, base_ms))
        most_ms = duration_ms("most", self.most, minimum_ms=1)
        if most_ms < base_ms:
            raise ConfigError("most", self.most, f"must be at least base ({self.base})")
        return BackoffPolicy(base_ms=base_ms, cap_ms=most_ms)


class Ruling(NamedTuple):
    """What follows a failure.

    Attributes:
        gives_up: Whether the job does not run again.
        backoff: Its backoff; ``None`` for the job type's own.
    """

    gives_up: bool = False
    backoff: BackoffPolicy | None = None


RETRIED: Final = Ruling()
"""The ruling where no rule names the exception."""

_MOST_MS: Final = 300_000


def read_rules(retry_on: object, give_up_on: object, retry: object) -> ErrorRules:
    """Check the options ``retry_on``, ``give_up_on`` and ``retry`` of a job.

    Args:
        retry_on: Exception types, a tuple of them, or a function; ``None`` for all.
        give_up_on: The same; ``None`` for none.
        retry: A mapping of exception types to their `Backoff`.

    Raises:
        ConfigError: A value is of another kind, or one type is named for both.
    """
    for field, kinds in (("retry_on", retry_on), ("give_up_on", give_up_on)):
        if kinds is not None:
            check_kinds(field, kinds)
    backoffs = tuple(_backoffs(retry))
    if retry_on is None and give_up_on is None and not backoffs:
        return NO_RULES
    rules = ErrorRules(
        cast("ErrorKinds | None", retry_on),
        cast("ErrorKinds | None", give_up_on),
        backoffs,
    )
    for kind in error_types(rules.give_up_on):
        if kind in _retried(rules):
            want = "it is named among those that are retried too"
            raise ConfigError("give_up_on", kind.__name__, want)
    return rules


def _backoffs(retry: object) -> Iterator[tuple[type[BaseException], int, int]]:
    want = "use a mapping such as {OSError: Backoff('1s')}"
    if not isinstance(retry, Mapping):
        raise ConfigError("retry", retry, want)
    for kind, backoff in retry.items():
        if not (is_error_type(kind) and isinstance(backoff, Backoff)):
            raise ConfigError("retry", {kind: backoff}, want)
        policy = backoff.policy()
        yield kind, policy.base_ms, policy.cap_ms


def ruling_of(error: BaseException, rules: ErrorRules) -> Ruling:
    """What follows a failure, by the rules of its job.

    A function among the rules that raises an exception has no say: the job runs again.

    >>> rules = read_rules(None, OSError, {TimeoutError: Backoff("30s")})
    >>> ruling_of(ConnectionError(), rules).gives_up
    True
    >>> ruling_of(TimeoutError(), rules).backoff
    BackoffPolicy(base_ms=30000, cap_ms=300000)
    """
    if rules is NO_RULES:
        return RETRIED
    if isinstance(error, BaseExceptionGroup):
        return max((ruling_of(one, rules) for one in error.exceptions), key=_weight)
    if _gives_up(error, rules):
        return Ruling(gives_up=True)
    found = {kind: (base, cap) for kind, base, cap in rules.backoffs}
    for kind in type(error).__mro__:
        if kind in found:
            base_ms, cap_ms = found[kind]
            return Ruling(backoff=BackoffPolicy(base_ms=base_ms, cap_ms=cap_ms))
    return RETRIED


def _weight(ruling: Ruling) -> tuple[bool, int]:
    return ruling.gives_up, 0 if ruling.backoff is None else ruling.backoff.base_ms


def _gives_up(error: BaseException, rules: ErrorRules) -> bool:
    retried, given_up = _retried(rules), error_types(rules.give_up_on)
    for kind in type(error).__mro__:
        if kind in given_up:
            return True
        if kind in retried:
            return False
    if _asked(rules.give_up_on, error) is True:
        return True
    return rules.retry_on is not None and _asked(rules.retry_on, error) is False


def _asked(kinds: ErrorKinds | None, error: BaseException) -> bool | None:
    """What a function in the place of types returns; ``None`` if it raises."""
    if kinds is None or isinstance(kinds, type | tuple):
        return False
    try:
        return bool(kinds(error))
    except Exception:  # noqa: BLE001  # the user's function failed
        return None


def _retried(rules: ErrorRules) -> tuple[type[BaseException], ...]:
    return error_types(rules.retry_on) + tuple(kind for kind, _, _ in rules.backoffs)
