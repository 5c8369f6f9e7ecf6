"""Waits until the log and the state store answer, as long as the caller allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from shifter import wiring
from shifter.config import Settings
from shifter.errors import StoreUnavailableError
from shifter.ports import ClaimStore, Clock, LogAdmin

_PAUSE_S: Final = 0.5


async def until_up(
    settings: Settings,
    admin: LogAdmin,
    clock: Clock,
    *,
    wait_s: float,
    warn: Callable[[str], None],
) -> None:
    """Return when both answer; go on without the state store if only that is away.

    Args:
        settings: Name the state store.
        admin: Admin of the log.
        clock: Paces the waiting.
        wait_s: How long to wait for both together.
        warn: Called when it goes on without the state store, with the reason.

    Raises:
        StoreUnavailableError: The log did not answer in that time; its last error.
        StoreRefusedError: One of them refuses this client, which waiting never mends.
    """
    until = clock.monotonic() + wait_s
    await answered(admin.ping, clock, until)
    claims: ClaimStore = wiring.open_claims(settings)
    try:
        await answered(claims.ping, clock, until)
    except StoreUnavailableError as error:
        # A worker can run without it: each job declares what happens then (`claims=`).
        warn(f"starting without the state store: {error}")
    finally:
        await claims.close()


async def answered(
    ping: Callable[[], Awaitable[str]], clock: Clock, until: float
) -> str:
    """The answer to a ping, which is repeated while the store is away.

    Args:
        ping: Asks the store.
        clock: Paces the asking.
        until: Monotonic time at which to give up; at least one try is made.

    Returns:
        What the store reports of itself.

    Raises:
        StoreUnavailableError, StoreRefusedError: The error of the last try.
    """
    while True:
        try:
            return await ping()
        except StoreUnavailableError:
            if clock.monotonic() + _PAUSE_S > until:
                raise
        await clock.sleep(_PAUSE_S)
