"""``GET /scale`` of the operator's page: numbers of workers, read when asked for."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from shifter.api.app import Shifter
from shifter.ops.scale_reader import PAGE_WAIT_S, ScaleReader, scale_page
from shifter.ports import Clock


class ScaleTask:
    """Reads in a task of the event loop that asks first, for as long as one asks.

    Args:
        app: Declares the worker groups.
        clock: Paces the readings.
    """

    def __init__(self, app: Shifter, clock: Clock) -> None:
        self._app, self._clock = app, clock
        self._reader: ScaleReader | None = None
        self._task: asyncio.Task[None] | None = None

    async def page(self) -> tuple[HTTPStatus, bytes]:
        """Status and body.

        Raises:
            ConfigError: The sizes of worker groups contradict each other.
        """
        if self._reader is None or self._task is None or self._task.done():
            self._reader = ScaleReader(self._app, self._clock, is_asked_only=True)
            self._task = asyncio.get_running_loop().create_task(self._reader.run())
        return scale_page(await self._reader.fresh(wait_s=PAGE_WAIT_S))

    async def close(self) -> None:
        """Stop reading, and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
