"""How late the event loop of a service is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

_EVERY_S: Final = 0.05
"""Between two calls of the timer."""
_KEPT: Final = 0.7
"""Share of a lag that is kept at the next call; half of it is gone after 0.1 s."""
_IDLE_S: Final = 2.0
"""Without a reader for so long, the timer sleeps."""


class LoopLag:
    """Measures how late the event loop is that asks, by that loop's own clock.

    A short timer measures how late it was called. A blocked loop calls nothing, so the
    time since the call that is overdue counts as well: a decision taken right after a
    long block sees it. The timer sleeps while nothing asks.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._expected_at = self._asked_at = 0.0
        self._lag_s = 0.0

    def read_ms(self) -> float:
        """Milliseconds, >= 0; 0 in a thread without a loop."""
        # A process whose asyncio was never imported runs no loop.
        library = sys.modules.get("asyncio")
        if library is None:
            return 0.0
        try:
            loop: asyncio.AbstractEventLoop = library.get_running_loop()
        except RuntimeError:
            return 0.0
        now = self._asked_at = loop.time()
        if loop is not self._loop:
            self._loop, self._lag_s = loop, 0.0
            self._wait(loop)
        late_s = now - self._expected_at
        if late_s < self._lag_s:  # noqa: PLR1730  # half the price, in each decision
            late_s = self._lag_s
        return late_s * 1_000

    @property
    def last_s(self) -> float:
        """Seconds, as last measured; 0 while nothing asks. From any thread."""
        return 0.0 if self._loop is None else self._lag_s

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._expected_at = loop.time() + _EVERY_S
        loop.call_later(_EVERY_S, self._called, loop)

    def _called(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        now = loop.time()
        self._lag_s = max(now - self._expected_at, self._lag_s * _KEPT)
        if now - self._asked_at > _IDLE_S:
            self._loop = None
        else:
            self._wait(loop)
