"""gRPC's retry throttle and push-back: a second guard, by what calls came to.

Every failure worth a retry costs a token, every success earns a part of one back; there
are no retries while half of the tokens or fewer are left. It needs no sharing, so it
also protects a process that does not reach the fleet.

Source: gRPC proposal A6 (10 tokens, ratio 0.1, three decimals; push-back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from shifter.policy.bounds import check_at_least, check_ratio

_MILLI = 1_000
"""Tokens are counted to three decimals. Source: gRPC proposal A6."""

_MOST_MS = 2**31 - 1
"""Largest push-back: the metadata holds a signed 32-bit integer (gRPC proposal A6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottlePolicy:
    """Settings of a retry throttle.

    Attributes:
        max_tokens: Tokens at the start and at most, >= 1.
        token_ratio: What a success earns, in (0, 1].

    Raises:
        ConfigError: A value is out of its range.
    """

    max_tokens: int = 10
    token_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_at_least("max_tokens", self.max_tokens, 1)
        check_ratio("token_ratio", self.token_ratio)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The dependency asks for the retry after ``wait_ms`` milliseconds, >= 0."""

    wait_ms: int


@dataclass(frozen=True, slots=True)
class DoNotRetry:
    """The dependency forbids the retry."""


PushBack: TypeAlias = RetryAfter | DoNotRetry


def full(policy: ThrottlePolicy) -> int:
    """Thousandths of tokens at the start."""
    return policy.max_tokens * _MILLI


def after_call(policy: ThrottlePolicy, tokens_milli: int, *, ok: bool) -> int:
    """Thousandths of tokens after a call; within ``[0, full(policy)]``. Pure.

    Args:
        policy: Of the dependency.
        tokens_milli: Before.
        ok: Whether it succeeded; a failure that no retry would mend is not counted at
            all, a push-back that forbids the retry counts as a failure.
    """
    if ok:
        earned = max(1, round(policy.token_ratio * _MILLI))
        return min(full(policy), tokens_milli + earned)
    return max(0, tokens_milli - _MILLI)


def may_retry(policy: ThrottlePolicy, tokens_milli: int) -> bool:
    """Whether more than half of the tokens are left. Pure."""
    return 2 * tokens_milli > full(policy)


def push_back(text: str | None) -> PushBack | None:
    """Read ``grpc-retry-pushback-ms``; ``None`` if it was not sent.

    Negative, unreadable and too large values mean: do not retry.

    >>> push_back("250"), push_back("-1"), push_back("soon")
    (RetryAfter(wait_ms=250), DoNotRetry(), DoNotRetry())
    """
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    if not is_number or int(text) > _MOST_MS:
        return DoNotRetry()
    return RetryAfter(int(text))
