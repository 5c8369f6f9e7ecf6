"""What an app can ask about one job by its id: its state, and that it not run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

from shifter.config import Settings
from shifter.model.job_id import check_job_id
from shifter.model.state import JobStatus
from shifter.ports import ClaimStore

_CANCEL_KEEP_MS: Final = 86_400_000


class HasStates:
    """An app's side of it; belongs to a class that has settings."""

    _stand_in: ClaimStore | None = None

    @property
    def settings(self) -> Settings:
        """Name the state store."""
        raise NotImplementedError

    async def status(self, job_id: str | UUID) -> JobStatus | None:
        """What the claim store knows of a job.

        Args:
            job_id: The job's id, in any spelling of a UUID.

        Returns:
            ``None`` while it has not been started, and after its state was forgotten.

        Raises:
            ConfigError: The id is no UUID, so no job has it.
            StoreUnavailableError: The state store does not answer.
        """
        known = check_job_id("job_id", job_id)
        async with self._claims() as claims:
            return await claims.status(known)

    async def cancel(self, job_id: str | UUID) -> JobStatus:
        """Ask that a job not run, or not run again.

        A job that runs now sees it in `Context.checkpoint`; one that has ended keeps
        its state.

        Args:
            job_id: The job's id, in any spelling of a UUID.

        Raises:
            ConfigError: The id is no UUID, so no job has it.
            StoreUnavailableError: The state store does not answer.
        """
        known = check_job_id("job_id", job_id)
        async with self._claims() as claims:
            return await claims.cancel(known, keep_ms=_CANCEL_KEEP_MS)

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word for the whole fleet; see `ClaimStore.note`.

        Raises:
            StoreUnavailableError: The state store does not answer.
        """
        async with self._claims() as claims:
            return await claims.note(name, word, keep_ms=keep_ms)

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncGenerator[ClaimStore]:
        if self._stand_in is not None:
            yield self._stand_in
            return
        from shifter import wiring  # noqa: PLC0415  # vendors load on first use

        claims = wiring.open_claims(self.settings)
        try:
            yield claims
        finally:
            await claims.close()
