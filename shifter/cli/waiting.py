"""Waits for the log and the state store, as long as somebody is willing to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from shifter import wiring
from shifter.cli.output import note
from shifter.config import Settings
from shifter.errors import StoreUnavailableError
from shifter.ports import ClaimStore, Clock, LogAdmin

_PAUSE_S: Final = 0.5


async def until_up(
    settings: Settings, admin: LogAdmin, clock: Clock, *, wait_s: float
) -> None:
    """Return when both answer; go on without the state store when only that is away.

    Raises:
        StoreUnavailableError: The log's last word in that time.
        StoreRefusedError: One of them does not let us in, which waiting never mends.
    """
    until = clock.monotonic() + wait_s
    await answered(admin.ping, clock, until)
    claims: ClaimStore = wiring.open_claims(settings)
    try:
        await answered(claims.ping, clock, until)
    except StoreUnavailableError as error:
        # A worker can do without it: each job says what then (`claims=`).
        note(f"warning: starting without the state store: {error}")
    finally:
        await claims.close()


async def answered(
    ping: Callable[[], Awaitable[str]], clock: Clock, until: float
) -> str:
    """What a store says of itself; asked again until then while it is away.

    Args:
        ping: Asks it.
        clock: Paces the asking.
        until: Monotonic time; at least one try is made.

    Raises:
        StoreUnavailableError, StoreRefusedError: Its last word.
    """
    while True:
        try:
            return await ping()
        except StoreUnavailableError:
            if clock.monotonic() + _PAUSE_S > until:
                raise
        await clock.sleep(_PAUSE_S)
