"""One run at a time on a dead-letter topic: a lease in the claim store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

from shifter.deadletter.plan import replay_id
from shifter.errors import HeldElsewhereError, StoreError
from shifter.model.claim import Busy, ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.ports import ClaimStore, Clock

LEASE_MS: Final = 5_000
_KEEP_MS: Final = 60_000
_SPARE: Final = 0.1
"""Part at the end of a lease that is not trusted: clocks may differ in speed."""

_RENEWALS: Final = 4
"""Renewals in the time of a lease, so that it survives some that fail."""


class TopicLease:
    """The right to work on a topic, for as long as it is renewed.

    Attributes:
        trusted_until: Monotonic seconds from which another run may hold the lease.
    """

    def __init__(self, clock: Clock, trusted_until: float) -> None:
        self._clock, self.trusted_until = clock, trusted_until

    @property
    def is_trusted(self) -> bool:
        """Whether no other run can hold the lease."""
        return self._clock.monotonic() < self.trusted_until


@contextlib.asynccontextmanager
async def holding(
    claims: ClaimStore,
    clock: Clock,
    source: str,
    *,
    owner: str,
    on_wait: Callable[[float], None] = lambda _: None,
) -> AsyncGenerator[TopicLease]:
    """Hold a topic while the block runs; waits for one lease of a killed holder.

    Args:
        claims: Store of the lease.
        clock: Clock that measures how long the lease is trusted.
        source: The topic.
        owner: Name of the run that asks.
        on_wait: Called with the seconds of each wait for another holder's lease.

    Raises:
        HeldElsewhereError: Another run holds the lease and renews it.
        StoreUnavailableError: The claim store does not answer.
    """
    name = replay_id("hold", source)
    taken = await _take(claims, clock, name, owner, on_wait)
    if taken is None:
        raise HeldElsewhereError(source)
    fence, lease = taken
    try:
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(_keep(claims, clock, lease, (name, fence)))
            try:
                yield lease
            finally:
                keeper.cancel()
                # A waiting claim can be claimed again at once.
                update = ClaimUpdate(name, fence, JobState.WAITING, 1, 1, _KEEP_MS)
                with contextlib.suppress(StoreError):
                    await claims.finish([update])
    except BaseExceptionGroup as errors:
        # The task that renews raises nothing, so this is an error of the block.
        raise errors.exceptions[0] from None


async def _take(
    claims: ClaimStore,
    clock: Clock,
    name: str,
    owner: str,
    on_wait: Callable[[float], None],
) -> tuple[int, TopicLease] | None:
    """The fence and the lease; ``None`` while another run renews it."""
    give_up_at = clock.monotonic() + LEASE_MS / 1_000
    while True:
        # The store grants the lease after this instant, so trust ends before the lease.
        asked_at = clock.monotonic()
        [answer] = await claims.claim(
            [ClaimRequest(name, name, 1, 1)], owner=owner, lease_ms=LEASE_MS
        )
        if isinstance(answer, Granted):
            return answer.fence, TopicLease(clock, asked_at + _trusted_s())
        if not isinstance(answer, Busy) or asked_at >= give_up_at:
            return None
        pause_s = answer.retry_in_ms / 1_000
        on_wait(pause_s)
        await clock.sleep(pause_s)


async def _keep(
    claims: ClaimStore, clock: Clock, lease: TopicLease, held: tuple[str, int]
) -> None:
    while True:
        await clock.sleep(LEASE_MS / 1_000 / _RENEWALS)
        asked_at = clock.monotonic()
        try:
            [answer] = await claims.renew([held], lease_ms=LEASE_MS)
        except StoreError:
            continue
        if not answer.held:
            lease.trusted_until = 0.0
            return
        lease.trusted_until = asked_at + _trusted_s()


def _trusted_s() -> float:
    return LEASE_MS / 1_000 * (1 - _SPARE)
