"""Runs a function with one endpoint after the other until it succeeds.

A try that failed is followed by one on another endpoint, as long as ``retries`` and
the retry budget of the dependency allow. With ``hedge=`` a second try begins while the
first one runs; the first answer counts, and the other try is cancelled. Source of
hedging: Dean and Barroso, "The Tail at Scale" (2013).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar, cast

from shifter.balance.options import RunOptions
from shifter.balance.tries import EndpointCalls, Try
from shifter.errors import DeadlineExceededError, RejectedError
from shifter.model.endpoint import Endpoint

T = TypeVar("T")


class CallFailedError(Exception):
    """All tries failed, or none was permitted; never leaves this package.

    Attributes:
        error: What the last try raised, or the refusal of the first.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class _TryFailedError(CallFailedError):
    """A try failed, and another endpoint may do better."""


class _TryRefusedError(CallFailedError):
    """A try was not permitted."""


def run_sync(
    calls: EndpointCalls, options: RunOptions, fetch: Callable[[Endpoint], T]
) -> T:
    """Call a plain function until it succeeds.

    Args:
        calls: Makes the tries.
        options: How many, and how long.
        fetch: The function.

    Raises:
        CallFailedError: All tries failed, or none was permitted.
    """
    calls.end_after(options.total)
    calls.wait_for_endpoints(options.timeout)
    failures = _Failures(options)
    while True:
        try:
            begun = _begin(calls, options, is_extra=failures.count > 0)
            try:
                with begun:
                    return fetch(begun.endpoint)
            except Exception as error:
                if begun.may_retry:
                    raise _TryFailedError(error) from None
                raise
        except CallFailedError as failed:
            failures.add(failed)


async def run_async(
    calls: EndpointCalls,
    options: RunOptions,
    fetch: Callable[[Endpoint], Awaitable[T]],
) -> T:
    """Await a function until it succeeds.

    Args:
        calls: Makes the tries.
        options: How many, how long, and when to hedge.
        fetch: The function.

    Raises:
        CallFailedError: All tries failed, or none was permitted.
    """
    calls.end_after(options.total)
    await calls.endpoints_known(options.timeout)
    failures = _Failures(options)
    calls.balancer.earn_hedge()
    while True:
        running = _Running(calls, options, fetch)
        try:
            delay_s = _hedge_after(calls, options)
            if delay_s is None:
                return await running.once(is_extra=failures.count > 0)
            return await running.hedged(delay_s, is_extra=failures.count > 0)
        except CallFailedError as failed:
            failures.add(failed)


class _Failures:
    """The tries of one call that failed.

    Attributes:
        count: How many there are.
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._last: Exception | None = None
        self.count = 0

    def add(self, failed: CallFailedError) -> None:
        """Return if another try may begin.

        Raises:
            CallFailedError: There is no other try.
        """
        if isinstance(failed, _TryRefusedError):
            raise CallFailedError(self._last or failed.error) from None
        self._last, self.count = failed.error, self.count + 1
        may_retry = self._options.retry_if(failed.error)
        if self.count > self._options.retries or not may_retry:
            raise CallFailedError(failed.error) from None


class _End(NamedTuple, Generic[T]):
    value: T | None
    error: BaseException | None


class _Running(Generic[T]):
    """Tries that run at the same time."""

    def __init__(
        self,
        calls: EndpointCalls,
        options: RunOptions,
        fetch: Callable[[Endpoint], Awaitable[T]],
    ) -> None:
        self._calls, self._options, self._fetch = calls, options, fetch
        self._tries: list[Try] = []

    async def once(self, *, is_extra: bool) -> T:
        """Make one try."""
        begun = _begin(self._calls, self._options, is_extra=is_extra)
        self._tries.append(begun)
        try:
            async with begun:
                return await self._fetch(begun.endpoint)
        except Exception as error:
            if begun.may_retry:
                raise _TryFailedError(error) from None
            raise

    async def hedged(self, delay_s: float, *, is_extra: bool) -> T:
        """Make one try, and another one when it takes too long."""
        ended: asyncio.Queue[_End[T]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._report(ended, is_extra=is_extra))]
            try:
                async with asyncio.timeout(delay_s):
                    end = await ended.get()
            except TimeoutError:
                if self._calls.balancer.spend_hedge():
                    tasks.append(group.create_task(self._report(ended, is_extra=True)))
                end = await ended.get()
                if end.error is not None and len(tasks) > 1:
                    other = await ended.get()
                    # A failure explains more than the refusal of the second try.
                    is_refusal = isinstance(other.error, _TryRefusedError)
                    end = end if is_refusal else other
            for begun in self._tries:
                begun.has_lost = True
            for task in tasks:
                task.cancel()
        if end.error is not None:
            raise end.error
        return cast("T", end.value)

    async def _report(self, ended: asyncio.Queue[_End[T]], *, is_extra: bool) -> None:
        try:
            ended.put_nowait(_End(await self.once(is_extra=is_extra), None))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            ended.put_nowait(_End(None, error))  # of the user's function itself
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            ended.put_nowait(_End(None, error))


def _begin(calls: EndpointCalls, options: RunOptions, *, is_extra: bool) -> Try:
    try:
        return calls.begin(options.timeout, is_extra=is_extra)
    except RejectedError as refusal:
        raise _TryRefusedError(refusal) from None
    except DeadlineExceededError as late:
        if is_extra:
            raise _TryRefusedError(late) from None
        raise


def _hedge_after(calls: EndpointCalls, options: RunOptions) -> float | None:
    """Seconds after which a second try begins; ``None`` for never."""
    if options.hedge_share is not None:
        return calls.balancer.percentile_s(options.hedge_share)
    return options.hedge_s
