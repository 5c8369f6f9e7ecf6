"""What an app can ask about one job by its id: its state, and that it not run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

from shifter.config import Settings
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import check_job_id, gap_name
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
        """The state of a job.

        A job is ``waiting`` from its acceptance on. Where log and state are in one
        file, that is read from the log. Elsewhere services record it in the state
        store, within some tenths of a second; this process finds its own at once. With
        the setting ``waiting_states=off`` a job is known when it is started.

        Args:
            job_id: The job's id, in any spelling of a UUID.

        Returns:
            ``None`` for an id that no job has, after its state was forgotten, and
            for a job that was not started and whose waiting could not be recorded.

        Raises:
            ConfigError: The id is no UUID, so no job has it.
            StoreUnavailableError: The state store does not answer.
        """
        known = check_job_id("job_id", job_id)
        # Looked at first: it may be recorded in between.
        is_waiting = self._is_unrecorded(known)
        async with self._claims() as claims:
            status = await claims.status(known)
        if status is None and is_waiting:
            return JobStatus(known, JobState.WAITING, 0, None, 0)
        return status

    async def may_wait(self, job_id: str | UUID) -> bool:
        """Whether a job that `status` does not find may wait nevertheless.

        So it is where jobs accepted in the same minute could not be recorded, and
        where they are not recorded; see the setting ``waiting_states``.

        Args:
            job_id: The job's id, in any spelling of a UUID.

        Raises:
            ConfigError: The id is no UUID, so no job has it.
            StoreUnavailableError: The state store does not answer.
        """
        known = check_job_id("job_id", job_id)
        if self._stand_in is not None:
            return False
        from shifter import wiring  # noqa: PLC0415  # vendors load on first use

        if not wiring.records_waiting(self.settings):
            return True
        async with self._claims() as claims:
            # The second name stands for all minutes, where they were too many.
            names = dict.fromkeys((gap_name(known), gap_name("")))
            found = [await claims.status(name) for name in names]
        return found != [None] * len(found)

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

    def _is_unrecorded(self, job_id: str) -> bool:
        """Whether this process accepted a job whose state is not recorded yet."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _claims(self) -> AsyncGenerator[ClaimStore]:
        if self._stand_in is not None:
            yield self._stand_in
            return
        from shifter import wiring  # noqa: PLC0415  # vendors load on first use

        claims = wiring.open_claims(self.settings, with_waiting=True)
        try:
            yield claims
        finally:
            await claims.close()
