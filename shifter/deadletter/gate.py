"""Whether replays may go on: others' word on it, and how the last ones fared."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from shifter.errors import StoreError
from shifter.model.state import JobState
from shifter.ports import ClaimStore

SAMPLE: Final = 10
"""How many replays of a batch are looked after."""

_SAMPLES: Final = 200
_A_LOOK: Final = 50


class ReplayGate(Protocol):
    """Whether extra executions may run now: retry budgets and circuits say so."""

    def refusal(self, target: str, count: int) -> str | None:
        """Why ``count`` more jobs may not go to a topic now; ``None`` if they may.

        A replay is an extra execution: what is let through is charged.
        """


class OpenGate:
    """`ReplayGate` where nothing keeps budgets or circuits: always yes."""

    def refusal(self, target: str, count: int) -> str | None:  # noqa: ARG002  # the port's
        """``None``."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPolicy:
    """When a run stops by itself.

    Attributes:
        ratio: Of the replays looked at, the share that failed again; at or above it
            the run stops. Above 1: never.
        least: Replays that must have been looked at, >= 1.
    """

    ratio: float = 0.5
    least: int = 20


class Watch:
    """How a sample of a run's replays fared, by the claim store's word.

    A replay that waits for another attempt has failed again; one that is done has not.

    Args:
        claims: The claim store.
        policy: When it is too much.
    """

    def __init__(self, claims: ClaimStore, policy: StopPolicy) -> None:
        self._claims, self._policy = claims, policy
        self._open: deque[tuple[str, int]] = deque(maxlen=_SAMPLES)
        self.failed = self.succeeded = 0

    def take(self, replays: list[tuple[str, int]]) -> None:
        """Look after these: pairs of a job's id and its first attempt."""
        self._open.extend(replays)

    async def look(self) -> None:
        """Ask after the oldest ones; what nobody can say now is asked again."""
        for _ in range(min(_A_LOOK, len(self._open))):
            job_id, attempt = self._open.popleft()
            try:
                status = await self._claims.status(job_id)
            except StoreError:
                self._open.append((job_id, attempt))
                return
            if status is None or (
                status.state is JobState.RUNNING and status.attempt <= attempt
            ):
                self._open.append((job_id, attempt))
            elif status.state in (JobState.DONE, JobState.DISCARDED):
                self.succeeded += 1
            elif status.state is not JobState.CANCELLED:
                self.failed += 1

    def verdict(self) -> str | None:
        """Why the run should stop; ``None`` if it need not."""
        seen = self.failed + self.succeeded
        if seen < self._policy.least or self.failed < self._policy.ratio * seen:
            return None
        return f"{self.failed} of {seen} replays looked at failed again"
