"""The number of workers of each group, read again and again while someone asks.

While a store is away the last number stays for ``scale_max_age``, with its age and the
error. Then the configured fallback is given in its place: an error, the floor of each
group, or its ceiling. An old number is never given as a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final, NoReturn

import msgspec

from shifter.api.app import Shifter
from shifter.errors import ShifterError
from shifter.ops.scale_history import ScaleHistory
from shifter.ops.scaling import Planner, ScaleGroup, ScaleReport, read_for_scaling
from shifter.ops.status import StatusSources, open_sources
from shifter.policy.scaling.settings import ScalingReason
from shifter.ports import Clock

EVERY_S: Final = 2.0
"""Seconds between two readings."""
_SHARE: Final = 10
"""Seconds between two readings for each second that one takes."""
_LATE: Final = 3
"""Readings that may be missing before a number counts as stale."""
PAGE_WAIT_S: Final = 3.0
"""How long a page waits for a reading at most; scalers wait for 3 s and more."""
_ASKED_S: Final = 120.0
"""For how long the readings go on after a question: scalers ask every 30 s."""


class ScaleAnswer(msgspec.Struct, frozen=True):
    """What a scaler is told: a `ScaleReport`, with its age.

    Attributes:
        as_of_ms: When the fleet was read, epoch milliseconds; ``None`` if it never was.
        groups: The worker groups; empty where there is no number to give.
        age_s: Seconds since the reading; ``None`` without one.
        is_stale: Whether the number could not be renewed in time.
        error: Why it could not be renewed; ``None`` if it was.
    """

    as_of_ms: int | None
    groups: list[ScaleGroup]
    age_s: float | None
    is_stale: bool
    error: str | None

    @property
    def is_given(self) -> bool:
        """Whether it may be used: it is fresh, or has numbers with their age."""
        return bool(self.groups) or not self.is_stale


def scale_page(answer: ScaleAnswer) -> tuple[HTTPStatus, bytes]:
    """An answer as JSON over HTTP: 503 where there is no number to give. Pure."""
    status = HTTPStatus.OK if answer.is_given else HTTPStatus.SERVICE_UNAVAILABLE
    return status, msgspec.json.encode(answer)


class ScaleReader:
    """Reads until its task is cancelled; belongs to one event loop.

    Args:
        app: Declares the groups; its settings name the stores.
        clock: Paces the readings, and measures their age.
        is_asked_only: Whether it reads only for as long as someone asks.

    Attributes:
        failure: Why the last reading failed; ``None`` if it did not.

    Raises:
        ConfigError: A group's floor is above its ceiling, or a setting is wrong.
    """

    def __init__(self, app: Shifter, clock: Clock, *, is_asked_only: bool) -> None:
        self._app, self._clock, self._is_asked_only = app, clock, is_asked_only
        self._planner = Planner(app, clock, remembers=True)
        self._history = ScaleHistory(self._planner)
        self._max_age_s = app.settings.scale_max_age_ms / 1_000
        self._fallback = app.settings.scale_fallback
        self._report: ScaleReport | None = None
        self._began = self._read_at = clock.monotonic()
        self._asked_at: float | None = None
        self._every_s = EVERY_S
        self.failure: str | None = "the fleet was not read yet"
        self._asked, self._attempted = asyncio.Event(), asyncio.Event()

    async def run(self) -> NoReturn:
        """Read; after a failure connect anew."""
        while True:
            await self._until_asked()
            try:
                async with open_sources(
                    self._app.settings, self._clock, _ignore
                ) as sources:
                    if sources.fleet is not None:
                        await self._history.restore(sources.fleet)
                    while self._is_wanted:
                        await self._read(sources)
            except Exception as error:  # noqa: BLE001  # said in every answer
                is_known = isinstance(error, ShifterError)
                name = "" if is_known else f"{type(error).__name__}: "
                self.failure = f"{name}{error}"
                self._publish()
                await self._clock.sleep(self._every_s)

    async def fresh(self, *, wait_s: float) -> ScaleAnswer:
        """The answer, of a reading that is young; or what there is after the wait.

        Args:
            wait_s: How long to wait for a reading at most, seconds.
        """
        self._asked_at = self._clock.monotonic()
        self._asked.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._is_late and self.failure is None:
                    await self._attempted.wait()
                if self._report is None:
                    await self._attempted.wait()
        return self.answer()

    def next_attempt(self) -> asyncio.Event:
        """Set when the next reading has ended, or has failed.

        To miss none, ask for it before `answer`.
        """
        self._asked_at = self._clock.monotonic()
        self._asked.set()
        return self._attempted

    def answer(self) -> ScaleAnswer:
        """The answer now; does not wait."""
        now, report = self._clock.monotonic(), self._report
        age_s = None if report is None else round(max(0.0, now - self._read_at), 3)
        as_of_ms = None if report is None else report.as_of_ms
        is_late, error = self._is_late, self.failure
        if report is not None and now - self._read_at <= self._max_age_s:
            is_stale = is_late or error is not None
            return ScaleAnswer(as_of_ms, report.groups, age_s, is_stale, error)
        if error is None:
            error = f"the last reading took longer than {self._max_age_s:g} s"
        is_over = now - max(self._began, self._read_at) > self._max_age_s
        groups = self._instead() if is_over else []
        return ScaleAnswer(as_of_ms, groups, age_s, True, error)

    @property
    def groups(self) -> list[str]:
        """Names of the groups."""
        return [group.name for group in self._planner.groups]

    @property
    def _is_late(self) -> bool:
        age_s = self._clock.monotonic() - self._read_at
        return self._report is None or age_s > _LATE * self._every_s

    @property
    def _is_wanted(self) -> bool:
        if not self._is_asked_only:
            return True
        asked_at = self._asked_at
        now = self._clock.monotonic()
        return asked_at is not None and now - asked_at <= _ASKED_S

    async def _until_asked(self) -> None:
        while not self._is_wanted:
            self._asked.clear()
            await self._asked.wait()

    async def _read(self, sources: StatusSources) -> None:
        began = self._clock.monotonic()
        overview = await read_for_scaling(sources)
        self._report = self._planner.plan(overview)
        self._read_at = self._clock.monotonic()
        self._every_s = max(EVERY_S, (self._read_at - began) * _SHARE)
        self.failure = None
        self._publish()
        if sources.fleet is not None:
            await self._history.save(sources.fleet)
        await self._clock.sleep(self._every_s)

    def _publish(self) -> None:
        attempted, self._attempted = self._attempted, asyncio.Event()
        attempted.set()

    def _instead(self) -> list[ScaleGroup]:
        """What is given in place of numbers that are too old."""
        if self._fallback == "error":
            return []
        known = {} if self._report is None else {g.name: g for g in self._report.groups}
        found = []
        for name, policy in self._planner.policies.items():
            before = known.get(name)
            desired = policy.floor if self._fallback == "floor" else policy.ceiling
            found.append(
                ScaleGroup(
                    name=name,
                    current=0 if before is None else before.current,
                    desired=desired,
                    due_backlog_s=desired * policy.target_ms / 1_000,
                    reason=ScalingReason.HELD.value,
                    is_measured=False,
                )
            )
        return found


def _ignore(_: str) -> None:
    """Ignore parts that could not be read: a number is made of all of them or none."""
