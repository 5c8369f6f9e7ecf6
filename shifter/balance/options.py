"""Options of one call with tries on several endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from shifter.errors import ConfigError
from shifter.model.endpoint import Endpoint
from shifter.model.time import Duration, duration_ms
from shifter.policy.bounds import check_at_least

T = TypeVar("T")


class TryOptions(TypedDict, total=False):
    """Options of a call with tries on several endpoints.

    Attributes:
        timeout: Longest duration of one try; by default what the caller has left.
        total: Longest duration of all tries; by default what the caller has left.
        retries: Further tries after the first one failed, >= 0; by default 0.
        hedge: When a second try begins while the first one runs: ``"p95"`` for the
            95th percentile of the last 256 durations, or a duration; by default never.
            `BalancePolicy.hedge_share` bounds how many there are.
        retry_if: Whether the error of a try that failed allows another one, for calls
            that must not be made twice; by default each does.
    """

    timeout: Duration | None
    total: Duration | None
    retries: int
    hedge: Duration | None
    retry_if: Callable[[BaseException], bool]


class HasEndpoints(Protocol):
    """What ``app.dependency(..., endpoints=[...])`` returns."""

    async def run(
        self,
        fetch: Callable[[Endpoint], Awaitable[T]],
        *,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """Await a function with one endpoint after the other."""

    def run_sync(
        self,
        fetch: Callable[[Endpoint], T],
        *,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """Call a function with one endpoint after the other."""


class RunOptions:
    """`TryOptions`, read and checked.

    Args:
        timeout: As there.
        total: As there.
        retries: As there.
        hedge: As there.
        retry_if: As there.

    Raises:
        ConfigError: An option is wrong.
    """

    __slots__ = ("hedge_s", "hedge_share", "retries", "retry_if", "timeout", "total")

    def __init__(
        self,
        *,
        timeout: Any = None,
        total: Any = None,
        retries: int = 0,
        hedge: Any = None,
        retry_if: Callable[[BaseException], bool] = lambda _: True,
    ) -> None:
        self.timeout = _optional_ms("timeout", timeout)
        self.total = _optional_ms("total", total)
        check_at_least("retries", retries, 0)
        self.retries, self.retry_if = retries, retry_if
        self.hedge_share = _percentile(hedge)
        self.hedge_s: float | None = None
        if hedge is not None and self.hedge_share is None:
            self.hedge_s = duration_ms("hedge", hedge, minimum_ms=1) / 1_000


def _optional_ms(field: str, value: Any) -> int | None:
    return None if value is None else duration_ms(field, value, minimum_ms=1)


def _percentile(hedge: object) -> float | None:
    """The share that ``p95`` means; ``None`` for a duration."""
    if not isinstance(hedge, str) or not hedge.startswith("p"):
        return None
    digits = hedge[1:]
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits) <= 99:
        want = "use 'p1' to 'p99', or a duration such as '50ms'"
        raise ConfigError("hedge", hedge, want)
    return int(digits) / 100
