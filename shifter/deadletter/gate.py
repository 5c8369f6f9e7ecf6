"""Continues a run only while circuits are closed and sampled replays succeed."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from shifter.errors import StoreError
from shifter.fleet.view import look
from shifter.model.claim import JobState
from shifter.ports import ClaimStore, Clock, FleetStore, PresenceStore

SAMPLE: Final = 10
"""Number of replays of a batch whose outcome is watched."""

_SAMPLES: Final = 200
"""Replays that are watched at once; older ones are forgotten."""

_READ_AT_ONCE: Final = 50
"""Outcomes that are read before the next batch, so that a batch is not held up."""

_GATE_EVERY_S: Final = 1.0
"""Seconds between two readings of the circuits; a worker reports once a second."""


class ReplayGate(Protocol):
    """Decides by the circuits of their dependencies whether more jobs may be sent now.

    Retry budgets are charged where a replay runs: its ``replay_of`` shows the worker
    that it is an extra execution.
    """

    async def refusal(self, job_types: Collection[str]) -> str | None:
        """Why jobs of these types may not be sent now; ``None`` if they may."""


class CircuitGate:
    """A `ReplayGate` by the circuits that a fleet shares.

    Workers report which dependencies their jobs call. While the state store does not
    answer, nothing is refused: without it a run soon fails anyway.

    Args:
        fleet: Has the state of each circuit.
        presence: Has the dependencies that jobs call, as workers report them.
        clock: Monotonic clock.
        process: Name of this program.
    """

    def __init__(
        self, fleet: FleetStore, presence: PresenceStore, clock: Clock, process: str
    ) -> None:
        self._fleet, self._presence = fleet, presence
        self._clock, self._process = clock, process
        self._uses: dict[str, str] = {}
        self._open: frozenset[str] = frozenset()
        self._read_at: float | None = None

    async def refusal(self, job_types: Collection[str]) -> str | None:
        """The first of these jobs whose dependency has an open circuit."""
        now = self._clock.monotonic()
        if self._read_at is None or now >= self._read_at + _GATE_EVERY_S:
            self._read_at = now
            with contextlib.suppress(StoreError):
                await self._read()
        for job_type in sorted(job_types):
            dependency = self._uses.get(job_type)
            if dependency in self._open:
                return f"circuit {dependency!r} is open, and {job_type!r} jobs call it"
        return None

    async def _read(self) -> None:
        for worker in await self._presence.workers():
            # Kept when a worker leaves: the next one calls the same dependencies.
            self._uses.update(worker.uses)
        found = await look(self._fleet, self._process)
        self._open = frozenset(
            row.dependency
            for row in found.circuits
            if (row.state if row.by_hand is None else row.by_hand.to) == "open"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPolicy:
    """When a run stops by itself.

    Attributes:
        ratio: Share of the watched replays; if so many fail again, the run stops. A
            value above 1 never stops it.
        least: Watched replays before the share counts, >= 1.
    """

    ratio: float = 0.5
    least: int = 20


class Watch:
    """The outcomes of a sample of a run's replays, read from the claim store.

    A replay that waits for another attempt has failed again.

    Args:
        claims: The claim store.
        policy: When the run stops.
    """

    def __init__(self, claims: ClaimStore, policy: StopPolicy) -> None:
        self._claims, self._policy = claims, policy
        self._open: deque[tuple[str, int]] = deque(maxlen=_SAMPLES)
        self.failed = self.succeeded = 0

    @property
    def seen(self) -> int:
        """Number of sampled replays whose outcome is known."""
        return self.failed + self.succeeded

    def take(self, replays: list[tuple[str, int]]) -> None:
        """Watch these jobs: pairs of a job's id and its first attempt."""
        self._open.extend(replays)

    async def look(self) -> None:
        """Read the outcomes of the oldest; read again later those not known yet."""
        for _ in range(min(_READ_AT_ONCE, len(self._open))):
            job_id, attempt = self._open.popleft()
            try:
                status = await self._claims.status(job_id)
            except StoreError:
                self._open.append((job_id, attempt))
                return
            if (
                status is None
                or not status.attempt
                or (status.state is JobState.RUNNING and status.attempt <= attempt)
            ):
                self._open.append((job_id, attempt))
            elif status.state in (JobState.DONE, JobState.DISCARDED):
                self.succeeded += 1
            # A cancelled job shows nothing about the failure.
            elif status.state is not JobState.CANCELLED:
                self.failed += 1

    def verdict(self) -> str | None:
        """Why the run should stop; ``None`` if it need not."""
        seen = self.seen
        if seen < self._policy.least or self.failed < self._policy.ratio * seen:
            return None
        return f"{self.failed} of {seen} replays looked at failed again"
