"""How many bytes of payloads a worker decodes in one turn of its event loop.

Decoding takes time in proportion to the bytes, and while a turn decodes for a second
no other job and no health check proceeds. So each turn has a budget; a payload beyond
it is decoded in a thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from shifter.wire.headers import JSON

TURN_BYTES: Final = 1_048_576
"""Of JSON, in a turn: 10 to 40 ms, by what is in it."""

_OTHER: Final = 16
"""As many bytes of JSON take as long as one of msgpack, whose depth is measured in
Python."""


class Decoding:
    """The budget of one event loop, and the thread for what goes beyond it."""

    def __init__(self) -> None:
        self._left = TURN_BYTES
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shifter-decode")

    def fits(self, value: bytes | None, content_type: str) -> bool:
        """Whether a payload may be decoded in this turn; if so, the budget is charged.

        Args:
            value: The payload.
            content_type: How it is written.
        """
        cost = 0 if value is None else len(value)
        if content_type != JSON:
            cost *= _OTHER
        if cost > self._left:
            return False
        if self._left == TURN_BYTES and cost:
            asyncio.get_running_loop().call_soon(self._refill)
        self._left -= cost
        return True

    async def run(
        self, decode: Callable[..., dict[str, Any]], value: bytes | None, kind: str
    ) -> dict[str, Any]:
        """Decode in the thread; raises what ``decode`` raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, decode, value, kind)

    def close(self) -> None:
        """Free the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _refill(self) -> None:
        self._left = TURN_BYTES
